"""Asks the routes whose answers do not end, or are no HTTP, and holds the answers to the document."""

import json
import socket
import sys
from urllib.parse import urlsplit

import requests
from jsonschema import Draft202012Validator

path, url, token = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    document = json.load(file)
session = requests.Session()
session.headers["Authorization"] = f"Bearer {token}"


def operation(name):
    for template, methods in document["paths"].items():
        for method, found in methods.items():
            if found["operationId"] == name:
                return template, found
    sys.exit(f"no operation {name}")


def check(schema, value):
    whole = {"components": document["components"], **schema}
    Draft202012Validator(whole).validate(value)


def events(answer):
    """Server-sent events: name and data."""
    name = None
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def get(name, **params):
    """The answer, which must be described, not read yet."""
    template, found = operation(name)
    target = url + template.replace("{id}", params.pop("id", ""))
    answer = session.get(target, params=params, stream=True, timeout=20)
    described = found["responses"].get(str(answer.status_code))
    assert described, f"{name} is answered {answer.status_code}, which is not described"
    return answer, described


def streamed(name, wanted, **params):
    """Reads until these events have come, each as it is described."""
    answer, described = get(name, **params)
    assert answer.headers["content-type"] == "text/event-stream"
    known = described["content"]["text/event-stream"]["x-events"]
    left = set(wanted)
    for event, data in events(answer):
        assert event in known, f"{name} sends {event}, which is not described"
        check(known[event]["data"], data)
        left.discard(event)
        if not left:
            break
    assert not left, f"{name} never sent {left}"
    answer.close()


made = session.post(f"{url}/v1/processes", json={"command": "echo", "args": ["hi"]}, timeout=20)
made.raise_for_status()
one = made.json()["id"]
streamed("getProcessLogs", ["log", "exit"], id=one, follow="true")
session.delete(f"{url}/v1/processes/{one}", timeout=20).raise_for_status()
streamed("watchEvents", ["created", "exited", "deleted"], since="0")
refused, described = get("watchEvents", since="x")
check(described["content"]["application/problem+json"]["schema"], refused.json())

body = {"command": "echo", "args": ["hi"]}
lines = session.post(
    f"{url}/v1/processes/run", json=body, timeout=20, headers={"Accept": "application/x-ndjson"}
)
_, found = operation("runProcess")
line_of = found["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
kinds = []
for line in lines.iter_lines():
    value = json.loads(line)
    check(line_of, value)
    kinds.append(value["type"])
assert kinds[0] == "start" and kinds[-1] == "exit" and "stdout" in kinds, kinds


def websocket(name, **params):
    """Text frames from the server until it closes, each as one of those that are described."""
    template, found = operation(name)
    target = template.replace("{id}", params.pop("id"))
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=20) as stream:
        stream.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        reader = stream.makefile("rb")
        status = int(reader.readline().split()[1])
        while reader.readline().strip():
            pass
        frames = found["responses"][str(status)]["x-websocket"]["fromServer"]
        kinds = []
        while True:
            head = reader.read(2)
            opcode, length = head[0] & 15, head[1] & 127
            if length == 126:
                length = int.from_bytes(reader.read(2), "big")
            payload = reader.read(length)
            if opcode == 8:
                return kinds
            if opcode == 1:
                value = json.loads(payload)
                check({"oneOf": frames}, value)
                kinds.append(value["type"])


made = session.post(f"{url}/v1/processes", json=body, timeout=20).json()["id"]
kinds = websocket("attachProcess", id=made)
assert kinds[0] == "ready" and kinds[-1] == "exit" and "output" in kinds, kinds
tty = session.post(f"{url}/v1/processes", json={**body, "tty": True}, timeout=20).json()["id"]
kinds = websocket("connectProcessTerminal", id=tty)
assert kinds == ["ready", "exit"], kinds
refused, described = get("connectProcessTerminal", id=tty)
assert refused.status_code == 400, refused
print("streams and WebSockets are as they are described")
