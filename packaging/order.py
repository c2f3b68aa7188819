#!/usr/bin/env python3
"""packaging/order.py PROGRAM > packaging/order.ld: which functions are used first, for the linker.

Starts PROGRAM (built by `cargo build --release`, x86-64) on each I/O backend with a breakpoint on every
function, asks it for what every server does, and writes the functions that were entered as patterns of
their sections: what a start needs, and then what a request, a run and a process need. Hashes in names
are left out, so that another compiler finds them, too; a name that is gone matches nothing.
docs/design/045-resident-code.md tells why.
"""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

TRACEME, CONT, GETREGS, SETREGS, DETACH, SETOPTIONS = 0, 7, 12, 13, 17, 0x4200
# Threads, children and what they become are traced, since they share the breakpoints; all end with this.
OPTIONS = 0x08 | 0x04 | 0x02 | 0x10 | 0x100000
EVENT_EXEC, WALL, RIP = 4, 0x40000000, 16

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def functions(program):
    """Offsets and names."""
    found = {}
    for line in subprocess.check_output(["nm", program], text=True).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in "tTwWi":
            found.setdefault(int(parts[0], 16), []).append(parts[2])
    return found


def ask(port, told):
    """What every server is asked for."""
    base = f"http://127.0.0.1:{port}/v1"

    def call(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    while not told["is_listening"]:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            told["is_listening"] = True
        except OSError:
            time.sleep(0.1)
    # What the start does behind that; then the functions of requests begin.
    time.sleep(1)
    told["is_asked"] = True
    call("GET", "/health")
    call("GET", "/health")
    call("POST", "/processes/run", {"command": "true"})
    script = "echo a; echo b; exec sleep 60"
    call("POST", "/processes", {"command": "sh", "args": ["-c", script], "name": "one"})
    for path in ("/processes/one", "/processes", "/processes/one/logs"):
        call("GET", path)
    call("POST", "/processes/one/stop")
    call("GET", "/processes/one/logs?follow=true")
    call("DELETE", "/processes/one")
    told["is_done"] = True


def record(program, found, backend):
    """Functions that a start enters, and those that requests enter besides."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = os.fork()
    if child == 0:
        libc.ptrace(TRACEME, 0, None, None)
        # Without variables that would make it another server.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        words = ["server", "--no-token", "--port", str(port), "--io-backend", backend]
        os.execve(program, [program, *words], {"PATH": os.environ["PATH"]})
    os.waitpid(child, 0)
    libc.ptrace(SETOPTIONS, child, None, OPTIONS)
    with open(f"/proc/{child}/maps") as maps:
        base = int(maps.readline().split("-")[0], 16)
    memory = os.open(f"/proc/{child}/mem", os.O_RDWR)
    before = {}
    for offset in found:
        before[offset] = os.pread(memory, 1, base + offset)
        os.pwrite(memory, b"\xcc", base + offset)
    told = {"is_listening": False, "is_asked": False, "is_done": False}
    threading.Thread(target=ask, args=(port, told), daemon=True).start()
    entered = ([], [])
    seen = set()
    registers = (ctypes.c_ulonglong * 27)()
    libc.ptrace(CONT, child, None, None)
    is_ending = False
    while True:
        if told["is_done"] and not is_ending:
            is_ending = True
            os.kill(child, signal.SIGTERM)
        thread, status = os.waitpid(-1, WALL | os.WNOHANG)
        if thread == 0:
            time.sleep(0.0005)
            continue
        if not os.WIFSTOPPED(status):
            if thread == child:
                return entered
            continue
        number, event = os.WSTOPSIG(status), status >> 16
        if event == EVENT_EXEC:
            libc.ptrace(DETACH, thread, None, None)
            continue
        if event or number == signal.SIGSTOP:
            number = 0
        elif number == signal.SIGTRAP:
            libc.ptrace(GETREGS, thread, None, ctypes.byref(registers))
            offset = registers[RIP] - 1 - base
            if offset in before:
                if offset not in seen and not is_ending:
                    seen.add(offset)
                    entered[told["is_asked"]].append(offset)
                os.pwrite(memory, before[offset], base + offset)
                registers[RIP] -= 1
                libc.ptrace(SETREGS, thread, None, ctypes.byref(registers))
            number = 0
        libc.ptrace(CONT, thread, None, number)


def pattern(name):
    """A name without what differs between compilers; None for what is not Rust's."""
    if name.startswith("_ZN"):
        return re.sub(r"17h[0-9a-f]{16}E(\.llvm\.\d+)?$", "17h*", name)
    if name.startswith("_R"):
        return re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", name)
    return None


def main():
    program = os.path.abspath(sys.argv[1])
    found = functions(program)
    first, then = {}, {}
    for backend in ("uring", "epoll"):
        entered = record(program, found, backend)
        for offsets, names in zip(entered, (first, then)):
            for offset in offsets:
                names.update((pattern(name), None) for name in found[offset])
        print(backend, *map(len, entered), file=sys.stderr)
    print("/* Written by packaging/order.py: functions in the order in which servers come to need them. */")
    print("SECTIONS\n{\n  .text.first :\n  {")
    for names in (first, {name: None for name in then if name not in first}):
        for name in sorted(filter(None, names)):
            # Cold ones are in .text.unlikely.NAME.
            print(f"    *(.text*.{name})")
    print("  }\n}\nINSERT BEFORE .text;")


main()
