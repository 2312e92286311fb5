"""Checks a receipt with public packages: securesystemslib (DSSE) and in-toto-attestation.

  verify.py RECEIPT PUBLIC_KEY      prints the statement's facts as JSON; exit code 1 if the signature is not valid
"""

import json
import sys

import google.protobuf.json_format as pb_json
import in_toto_attestation.predicates.test_result.v0.test_result_pb2 as test_result
import in_toto_attestation.v1.statement_pb2 as statement_pb2
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

with open(sys.argv[1], encoding="utf-8") as file:
    envelope = Envelope.from_dict(json.load(file))
with open(sys.argv[2], "rb") as file:
    key = SSlibKey.from_crypto(load_pem_public_key(file.read()))
try:
    envelope.verify([key], 1)
except VerificationError as error:
    sys.exit(f"not verified: {error}")
assert envelope.payload_type == "application/vnd.in-toto+json"

payload = json.loads(envelope.payload)
statement = pb_json.ParseDict(payload, statement_pb2.Statement())
Statement.copy_from_pb(statement).validate()
# Fails for a field that the predicate does not have.
predicate = pb_json.ParseDict(payload["predicate"], test_result.TestResult())
print(
    json.dumps(
        {
            "subject": {subject.name: dict(subject.digest) for subject in statement.subject},
            "predicate_type": statement.predicate_type,
            "result": predicate.result,
            "passed": list(predicate.passed_tests),
            "failed": list(predicate.failed_tests),
            "configuration": [part["name"] for part in payload["predicate"]["configuration"]],
        }
    )
)
