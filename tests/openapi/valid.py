"""Checks that a document is OpenAPI 3.1, and that its examples fit their schemas."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
validate(document)


def contents(node, place):
    """Every media type with its schema and examples, and where it stands."""
    if isinstance(node, dict):
        if "schema" in node and "examples" in node:
            yield place, node
        for key, value in node.items():
            yield from contents(value, f"{place}/{key}")
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from contents(value, f"{place}/{at}")


shown = 0
for place, content in contents(document["paths"], ""):
    schema = {"components": document["components"], **content["schema"]}
    validator = Draft202012Validator(schema)
    for name, example in content["examples"].items():
        values = [example["value"]]
        if place.endswith("ndjson"):
            values = [json.loads(line) for line in example["value"].splitlines()]
        wrong = [error.message for value in values for error in validator.iter_errors(value)]
        # What is sent and refused is an example, too.
        if wrong and not ("requestBody" in place and name.startswith("no")):
            sys.exit(f"{place}, {name}: {wrong}")
        shown += 1
print(f"{len(document['paths'])} paths, {shown} examples")
