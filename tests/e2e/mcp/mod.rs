//! `relay mcp`: the commands as MCP tools, tested through stdin and stdout ([`lines`]) and with other [`clients`].

mod clients;
mod lines;
