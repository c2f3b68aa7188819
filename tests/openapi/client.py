"""A client made from the document by openapi-python-client, against a real server."""

import base64
import importlib
import sys

folder, url, token = sys.argv[1:]
sys.path.insert(0, folder)
client_of = importlib.import_module("procring_client")


def call(group, name):
    return importlib.import_module(f"procring_client.api.{group}.{name}")


def model(name):
    return getattr(importlib.import_module("procring_client.models"), name)


client = client_of.AuthenticatedClient(base_url=url, token=token)

body = model("RunRequest").from_dict({"command": "echo", "args": ["from", "python"]})
result = call("runs", "run_process").sync(client=client, body=body)
assert result.stdout == "from python\n", result
assert result.exit_code == 0, result

refused = call("runs", "run_process").sync_detailed(
    client=client, body=model("RunRequest")(command="/no/such/program")
)
assert refused.status_code == 502, refused
assert refused.parsed.code == "ENOENT", refused

body = model("CreateRequest").from_dict({"command": "cat", "name": "from-python"})
created = call("processes", "create_process").sync(client=client, body=body)
body = model("InputRequest").from_dict({"data": "line\n", "encoding": "utf8", "eof": True})
call("input_", "send_process_input").sync("from-python", client=client, body=body)
ended = call("processes", "wait_for_process").sync("from-python", client=client)
assert ended.process.id == created.id and ended.process.exit_code == 0, ended
logs = call("logs", "get_process_logs").sync("from-python", client=client)
assert b"".join(base64.b64decode(entry.data) for entry in logs.entries) == b"line\n", logs
deleted = call("processes", "delete_process").sync_detailed("from-python", client=client)
assert deleted.status_code == 204, deleted
