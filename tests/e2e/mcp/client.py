"""An MCP client of another make: the official Python SDK. Calls what it is told to on stdin, says on stdout what came.

    client.py RELAY [ARGUMENT...] <<<'{"meta": {...}, "calls": [["status", {}], ...]}'
"""

import asyncio
import json
import sys

from jsonschema import Draft202012Validator
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import get_default_environment, stdio_client


async def main() -> None:
    told = json.load(sys.stdin)
    server = StdioServerParameters(
        command=sys.argv[1], args=sys.argv[2:], env={**get_default_environment(), **told["env"]}, cwd=told["cwd"]
    )
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        begun = await session.initialize()
        tools = (await session.list_tools()).tools
        for tool in tools:
            Draft202012Validator.check_schema(tool.inputSchema)
        results = []
        for name, arguments in told["calls"]:
            result = await session.call_tool(name, arguments, meta=told["meta"])
            results.append(result.model_dump(mode="json", by_alias=True))
        said = {
            "instructions": begun.instructions,
            "protocol": begun.protocolVersion,
            "tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools],
            "results": results,
        }
    json.dump(said, sys.stdout)


asyncio.run(main())
