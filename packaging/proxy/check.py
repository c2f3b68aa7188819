"""Puts a server behind nginx, HAProxy and Caddy with the files beside this one, and uses it through each.

    python3 packaging/proxy/check.py PROGRAM

Everything must come through as it is made: a stream that is held back until its end would hang this
check, because what ends it is sent only after what came before it has been read. Ports are the
kernel's; all is on 127.0.0.1.
"""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
WAIT = 30
TOKEN = "s3cret"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def free_port():
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def running(command, port, **more):
    """A program that is waited for at its port, and ended."""
    process = subprocess.Popen(command, **more)
    try:
        end = time.monotonic() + WAIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command[0]} does not listen") from None
                time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)


def adapted(name, port, server, folder):
    """A file from here with the ports of this check: its own, and the server's."""
    text = (HERE / name).read_text()
    text = text.replace("127.0.0.1:2468", f"127.0.0.1:{server}")
    text, found = re.subn(r"127\.0\.0\.1:808\d", f"127.0.0.1:{port}", text)
    assert found == 1, f"{name}: {found} addresses of its own"
    path = pathlib.Path(folder) / name
    path.write_text(text)
    return path


def nginx(port, server, folder):
    """nginx takes files for its context `http`."""
    snippet = adapted("nginx.conf", port, server, folder)
    main = pathlib.Path(folder) / "main.conf"
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} include {snippet}; }}\n"
    )
    subprocess.run(["nginx", "-q", "-t", "-c", main], check=True)
    return ["nginx", "-c", str(main)]


def haproxy(port, server, folder):
    """HAProxy takes a whole file."""
    path = str(adapted("haproxy.cfg", port, server, folder))
    subprocess.run(["haproxy", "-q", "-c", "-f", path], check=True)
    return ["haproxy", "-q", "-db", "-f", path]


def caddy(port, server, folder):
    """Caddy takes a whole file."""
    path = str(adapted("Caddyfile", port, server, folder))
    quiet = {"stderr": subprocess.DEVNULL}
    subprocess.run(["caddy", "validate", "--config", path, "--adapter", "caddyfile"], check=True, **quiet)
    return ["caddy", "run", "--config", path, "--adapter", "caddyfile"]


def request(port, method, path, body=None, headers=None):
    """One request; gives the open answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, HEADERS | (headers or {}))
    answer = connection.getresponse()
    assert answer.status < 300, f"{method} {path}: {answer.status} {answer.read()}"
    return answer


def start(port, command, *args, **more):
    """The id of a new process."""
    body = {"command": command, "args": args} | more
    return json.load(request(port, "POST", "/v1/processes", body))["id"]


def plain_run(port):
    """REST."""
    answer = json.load(request(port, "POST", "/v1/processes/run", {"command": "echo", "args": ["hi"]}))
    assert answer["stdout"] == "hi\n", answer


def event_stream(port):
    """SSE: a line is read before the next one is caused."""
    process = start(port, "cat")
    events = request(port, "GET", f"/v1/processes/{process}/logs?follow=true")
    for word in ("one", "two"):
        data = {"data": f"{word}\n", "encoding": "utf8"}
        request(port, "POST", f"/v1/processes/{process}/input", data).read()
        wanted = base64.b64encode(f"{word}\n".encode())
        while wanted not in events.readline():
            pass
    request(port, "POST", f"/v1/processes/{process}/kill").read()
    while b"exit" not in (line := events.readline()):
        assert line, "the stream ended without exit"


def run_stream(port):
    """A run that writes while it is asked: its first line, before it ends by what that says."""
    with tempfile.TemporaryDirectory() as folder:
        go = os.path.join(folder, "go")
        os.mkfifo(go)
        body = {"command": "sh", "args": ["-c", f"echo first; cat {go}; echo last"]}
        body["outputEncoding"] = "utf8"
        accept = {"Accept": "application/x-ndjson"}
        answer = request(port, "POST", "/v1/processes/run", body, accept)
        while "first" not in json.loads(answer.readline()).get("data", ""):
            pass
        pathlib.Path(go).write_text("")
        lines = [json.loads(line) for line in answer]
        assert lines[-1]["type"] == "exit" and lines[-1]["exitCode"] == 0, lines


def raw_input(port):
    """A body without an end in sight reaches the process piece by piece."""
    process = start(port, "cat")
    events = request(port, "GET", f"/v1/processes/{process}/logs?follow=true")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.putrequest("POST", f"/v1/processes/{process}/stdin?eof=true")
    connection.putheader("Authorization", HEADERS["Authorization"])
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for word in (b"early\n", b"later\n"):
        connection.send(b"%x\r\n%s\r\n" % (len(word), word))
        while base64.b64encode(word) not in events.readline():
            pass
    connection.send(b"0\r\n\r\n")
    answer = json.load(connection.getresponse())
    assert answer["bytesWritten"] == 12, answer


class WebSocket:
    """As much of RFC 6455 as a terminal's client needs."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        assert b" 101 " in status, status
        while self.file.readline() != b"\r\n":
            pass

    def send(self, text):
        """One text frame; masked with zeros, which changes nothing."""
        data = text.encode()
        assert len(data) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + bytes(4) + data)

    def receive(self):
        """The kind and the bytes of the next frame."""
        kind, length = self.file.read(2)
        if length == 126:
            (length,) = struct.unpack(">H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.file.read(8))
        return kind & 15, self.file.read(length)


def terminal(port):
    """Typing into a shell, and its end."""
    process = start(port, "sh", tty=True)
    screen = WebSocket(port, f"/v1/processes/{process}/terminal/ws")
    screen.send(json.dumps({"type": "input", "data": "echo $((6 * 7))x\n"}))
    seen = b""
    while b"42x" not in seen:
        seen += screen.receive()[1]
    screen.send(json.dumps({"type": "input", "data": "exit\n"}))
    while b'"exit"' not in screen.receive()[1]:
        pass


USES = (plain_run, event_stream, run_stream, raw_input, terminal)
PROXIES = (nginx, haproxy, caddy)


def main():
    """See the module."""
    program = sys.argv[1]
    server = free_port()
    listen = ["--listen", f"127.0.0.1:{server}", "--token", TOKEN]
    missing = [proxy.__name__ for proxy in PROXIES if not shutil.which(proxy.__name__)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    passed = 0
    with running([program, "server", *listen], server, stderr=subprocess.DEVNULL):
        for proxy in PROXIES:
            with tempfile.TemporaryDirectory() as folder:
                # Workers that are not root have to get in.
                os.chmod(folder, 0o777)
                port = free_port()
                home = os.environ | {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
                quiet = {"stderr": subprocess.DEVNULL, "env": home}
                with running(proxy(port, server, folder), port, **quiet):
                    for use in USES:
                        use(port)
                        print(f"{proxy.__name__}: {use.__name__}", flush=True)
                        passed += 1
    print(f"{passed} passed, 0 failed")


main()
