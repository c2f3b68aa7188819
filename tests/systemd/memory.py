"""A service with MemoryMax=64M, and clients that make it hold what they can."""

import json
import os
import resource
import socket
import time

from trial import *

M = 1 << 20
SMALL = """MemoryMax=64M
MemorySwapMax=0
ExecStart=
ExecStart=/usr/bin/procring server --listen systemd --listen 127.0.0.1:2468 --no-token
"""

resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))


class Small:
    """The service, with a process that must go on whatever clients do."""

    def __init__(self):
        drop_in(SMALL)
        self.main = main_pid()
        self.group = cgroup()
        self.steady = create("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done")
        self.refusals = {}

    def counted(self, name, file="memory.events"):
        for line in open(f"{self.group}/{file}"):
            key, value = line.split()
            if key == name:
                return int(value)
        return None

    def ask(self, *arguments, **more):
        """As `ask`, and counts what is refused, which must say when to come again."""
        answer = ask(*arguments, **more)
        if answer.status == 503:
            problem = answer.json
            assert answer.headers["retry-after"], answer.headers
            code = problem.get("code")
            assert code, problem
            self.refusals[code] = self.refusals.get(code, 0) + 1
        return answer

    def holds(self):
        """Nobody was killed, requests are answered, and what ran goes on."""
        assert main_pid() == self.main, "the server was killed"
        kills = self.counted("oom_kill")
        lines = lambda: get(f"/v1/processes/{self.steady['id']}?usage=true")["usage"]["outputBytes"]
        before = lines()
        until("the steady process goes on", lambda: lines() > before, within=60)
        ran = self.ask("POST", "/v1/processes/run", {"command": "echo", "args": ["here"]})
        assert ran.status == 503 or ran.json["stdout"] == "here\n", ran
        assert kills == 0, f"{kills} of the unit were killed"
        peak = int(open(self.group + "/memory.peak").read()) if os.path.exists(self.group + "/memory.peak") else 0
        now = int(open(self.group + "/memory.current").read())
        parts = {name: self.counted(name, "memory.stat") for name in ("anon", "kernel", "sock", "file")}
        parts = ", ".join(f"{name} {value / M:.1f}" for name, value in parts.items() if value is not None)
        return (
            f"peak {peak / M:.1f} MiB, now {now / M:.1f} ({parts}), max {self.counted('max')}, "
            f"refusals {self.refusals}, counted {get('/v1/server')['memory']['totalBytes'] / M:.1f}"
        )


def connected(kind):
    """A connection that reads nothing, by the name of its kind."""
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(SOCKET)
    else:
        connection = socket.create_connection(("127.0.0.1", 2468))
    connection.settimeout(PATIENCE)
    return connection


def by_both(function):
    for kind in ("unix", "tcp"):

        def each(kind=kind):
            small = Small()
            held = function(small, kind)
            try:
                time.sleep(3)
                return small.holds()
            finally:
                for connection in held:
                    connection.close()

        each.__doc__ = f"64 MiB: {function.__doc__}, over {kind}"
        each.__name__ = f"{function.__name__}_{kind}"
        each.__module__ = __name__
        check(each)


def send(connection, data):
    """As much as is taken without waiting."""
    connection.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += connection.send(data[sent : sent + 65536])
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    return sent


@by_both
def connections(small, kind):
    """3,000 connections with half a head each"""
    held = []
    for _ in range(3000):
        try:
            connection = connected(kind)
        except OSError:
            continue
        held.append(connection)
        send(connection, b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nx-fill: " + b"x" * 8000)
    return held


@by_both
def bodies(small, kind):
    """400 bodies of 1 MB, all but their ends"""
    held = []
    for _ in range(400):
        connection = connected(kind)
        held.append(connection)
        body = b'{"command":"cat","stdin":"' + b"x" * 1_000_000
        head = f"POST /v1/processes/run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body) + 1000}\r\n\r\n"
        send(connection, head.encode() + body)
    for _ in range(3):
        for connection in held:
            send(connection, b"x" * 300_000)
        time.sleep(1)
    return held


def flood(small, count, **more):
    made = []
    for _ in range(count):
        answer = small.ask("POST", "/v1/processes", {"command": "yes", "args": ["x" * 200], **more})
        if answer.status == 200:
            made.append(answer.json)
        else:
            assert answer.status == 503, answer
    return made


def readers(kind, made, count, what):
    """So many clients that ask for logs and read nothing."""
    held = []
    for number in range(count):
        connection = connected(kind)
        held.append(connection)
        path = f"/v1/processes/{made[number % len(made)]['id']}/{what}"
        send(connection, f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return held


@by_both
def followers(small, kind):
    """500 followers of floods, who read nothing"""
    made = flood(small, 5, limits={"outputBytesPerSecond": 2_000_000})
    held = readers(kind, made, 500, "logs?follow=true")
    time.sleep(15)
    return held


@by_both
def fetches(small, kind):
    """300 fetches of long logs, which read nothing"""
    made = flood(small, 5)
    time.sleep(5)
    held = readers(kind, made, 300, "logs")
    time.sleep(10)
    return held


@check
def logs():
    """64 MiB: 40 floods with logs of 10 MiB each"""
    small = Small()
    made = flood(small, 40)
    time.sleep(30)
    for process in made:
        assert get(f"/v1/processes/{process['id']}")["status"] == "running"
        # What a running process is promised.
        text = ask("GET", f"/v1/processes/{process['id']}/logs?format=text").body
        assert len(text) >= 64 << 10, len(text)
    return f"{len(made)} of 40; {small.holds()}"


@check
def terminals():
    """64 MiB: 60 terminals of 1000 columns that are flooded, with viewers who read nothing"""
    small = Small()
    made = flood(small, 60, tty=True, cols=1000, rows=1000)
    held = []
    for process in made:
        for _ in range(3):
            connection = connected("unix")
            held.append(connection)
            send(
                connection,
                f"GET /v1/processes/{process['id']}/terminal/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode(),
            )
    time.sleep(20)
    try:
        return f"{len(made)} of 60; {small.holds()}"
    finally:
        for connection in held:
            connection.close()


@check
def runs():
    """64 MiB: 200 runs at once with 1 MB of output each, and of input"""
    small = Small()
    held = []
    body = json.dumps(
        {"command": "sh", "args": ["-c", "yes | head -c 1000000; sleep 20"], "stdin": "y" * 500_000, "maxOutputBytes": 1_000_000}
    ).encode()
    for _ in range(200):
        connection = connected("unix")
        held.append(connection)
        head = f"POST /v1/processes/run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.settimeout(20)
        try:
            connection.sendall(head.encode() + body)
        except OSError:
            pass
    time.sleep(30)
    try:
        return small.holds()
    finally:
        for connection in held:
            connection.close()


@check
def records():
    """64 MiB: creates with long arguments until they are refused"""
    small = Small()
    arguments = ["x" * 100_000] * 8
    statuses = {}
    for _ in range(150):
        status = small.ask("POST", "/v1/processes", {"command": "true", "args": arguments}).status
        statuses[status] = statuses.get(status, 0) + 1
    return f"{statuses}; {small.holds()}"


@check
def sleepers():
    """64 MiB: more processes than fit cost processes, and never the server"""
    small = Small()
    statuses = {}
    for _ in range(600):
        answer = small.ask("POST", "/v1/processes", {"command": "sleep", "args": ["1000"]}, timeout=300)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status not in (200, 503):
            statuses[answer.body[:200]] = 1
    assert main_pid() == small.main, "the server was killed"
    assert get("/v1/health")["status"] == "ok"
    return f"{statuses}, killed {small.counted('oom_kill')}, current {int(open(small.group + '/memory.current').read()) / M:.1f} MiB"


@check
def greedy_without_limits():
    """64 MiB: a command that takes all of it is killed, and not the server"""
    small = Small()
    done = run("python3", "-c", "x = bytearray(10**9)")
    assert main_pid() == small.main, "the server was killed"
    assert get("/v1/health")["status"] == "ok"
    assert alive(small.steady["pid"]), "another process was killed"
    return json.dumps({key: done.get(key) for key in ("exitCode", "signal", "exitReason")})
