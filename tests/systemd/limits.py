"""Limits of trees where controllers are delegated, as the shipped user and as root."""

import json
import os
import re
import subprocess
import threading
import time

from trial import *

ROOT = documented("User=root")
GREEDY = ("python3", "-c", "x = bytearray(10**9)")
M = 1 << 20


def as_shipped_and_as_root(function):
    """Two checks of one: as the user of the package and as root."""

    def shipped():
        drop_in("")
        return function()

    def root():
        drop_in(ROOT)
        return function()

    for each, whose in ((shipped, "as shipped"), (root, "as root")):
        each.__doc__ = f"{function.__doc__}, {whose}"
        each.__name__ = f"{function.__name__}_{whose.replace(' ', '_')}"
        each.__module__ = __name__
        check(each)


@as_shipped_and_as_root
def capabilities():
    """the server says which controllers there are"""
    # Controllers are switched on when they are needed.
    done = run("true", limits={"memoryBytes": 64 * M, "pids": 50, "cpuMillis": 500})
    assert done["exitCode"] == 0, done
    said = get("/v1/server")
    assert {"cgroup", "limits", "memoryLimit", "cpuLimit", "pidsLimit"} <= set(said["capabilities"]), said
    is_root = shown("User") == "root"
    assert ("user" in said["capabilities"]) == is_root, said
    controllers = open(next(folder for folder in tree_of(cgroup()) if folder.endswith("-limited")) + "/cgroup.subtree_control").read().split()
    assert {"memory", "cpu", "pids"} <= set(controllers), controllers
    warnings = [line for line in journal(30).splitlines() if "warning" in line]
    return f"missing: {json.dumps(said['missing'])}; warnings: {warnings}"


@as_shipped_and_as_root
def memory_of_a_run():
    """python3 -c 'x = bytearray(10**9)' with 64 MiB says oom, and nobody else notices"""
    server = main_pid()
    ticks = create("sh", "-c", "while :; do date +%s.%N; sleep 0.2; done")
    time.sleep(2)
    done = run(*GREEDY, limits={"memoryBytes": 64 * M})
    assert done["exitReason"] == "oom", done
    neighbour = run("sh", "-c", "echo here")
    assert neighbour["stdout"] == "here\n" and neighbour.get("exitReason") is None
    time.sleep(1)
    assert main_pid() == server and alive(ticks["pid"])
    text = ask("GET", f"/v1/processes/{ticks['id']}/logs?format=text").body.decode()
    moments = [float(line) for line in text.split()]
    widest = max(b - a for a, b in zip(moments, moments[1:]))
    # 32 MiB fit.
    fits = run("python3", "-c", "x = bytearray(32 << 20); print(len(x))", limits={"memoryBytes": 64 * M})
    assert fits["exitCode"] == 0 and "exitReason" not in fits, fits
    return f"exitCode {done.get('exitCode')}, signal {done.get('signal')}, neighbour's widest pause {widest:.2f} s"


@as_shipped_and_as_root
def memory_of_a_process():
    """a process says oom, an event before says so, and a grandchild's end leaves the process"""
    events = Unix(SOCKET, PATIENCE)
    events.request("GET", "/v1/events")
    stream = events.getresponse()
    made = create("sh", "-c", "python3 -c 'x = bytearray(10**9)'; echo $?; exec sleep 1000", limits={"memoryBytes": 64 * M})
    seen = []
    while "oom" not in seen:
        line = stream.readline().decode()
        assert line, "the events ended"
        if line.startswith("event:"):
            seen.append(line.split(":")[1].strip())
    until("the shell goes on", lambda: "137" in ask("GET", f"/v1/processes/{made['id']}/logs?format=text").body.decode())
    assert get(f"/v1/processes/{made['id']}")["status"] == "running"
    events.close()
    alone = create(*GREEDY, limits={"memoryBytes": 64 * M})
    ended = ask("GET", f"/v1/processes/{alone['id']}/wait?timeoutMs=100000").json["process"]
    assert ended["exitReason"] == "oom", ended
    return f"events {seen}"


@as_shipped_and_as_root
def swap():
    """swapBytes bounds what is swapped out"""
    if "/swap" not in open("/proc/swaps").read():
        shell("dd", "if=/dev/zero", "of=/swap", "bs=1M", "count=256")
        os.chmod("/swap", 0o600)
        shell("mkswap", "/swap")
        shell("swapon", "/swap")
    ask_for = ("python3", "-c", "x = bytearray(b'x') * (96 << 20); print(len(x))")
    without = run(*ask_for, limits={"memoryBytes": 64 * M, "swapBytes": 0})
    assert without["exitReason"] == "oom", without
    little = run(*ask_for, limits={"memoryBytes": 64 * M, "swapBytes": 8 * M})
    assert little["exitReason"] == "oom", little
    enough = run(*ask_for, limits={"memoryBytes": 64 * M, "swapBytes": 128 * M})
    assert enough["exitCode"] == 0, enough


@as_shipped_and_as_root
def processor():
    """cpuMillis bounds how much of a core a tree has"""
    began = time.monotonic()
    done = ask(
        "POST",
        "/v1/processes/run?usage=true",
        {
            "command": "sh",
            "args": ["-c", "for i in 1 2 3; do (while :; do :; done) & done; sleep 10; kill $(jobs -p) 2>/dev/null; :"],
            "limits": {"cpuMillis": 300},
            "timeoutMs": 60000,
        },
    ).json
    took = time.monotonic() - began
    usage = done["usage"]
    share = (usage["userCpuUs"] + usage["systemCpuUs"]) / 1e6 / took
    assert usage["scope"] == "tree" and 0.2 < share < 0.36, (share, done)
    return f"{share:.3f} of a core for {took:.1f} s with 300 asked for"


@as_shipped_and_as_root
def fork_bomb():
    """a fork bomb with pids 50 is stopped by one kill"""
    # What follows is ended with the unit, if all fails.
    bomb = create("bash", "-c", "f() { f | f & }; f; while :; do f 2>/dev/null; done", limits={"pids": 50, "outputBytesPerSecond": 100_000})
    group = until("50 are there", lambda: full(50))
    time.sleep(2)
    assert run("echo", "beside")["stdout"] == "beside\n"
    began = time.monotonic()
    killed = ask("POST", f"/v1/processes/{bomb['id']}/kill?waitMs=5000")
    assert killed.status == 200, killed
    took = time.monotonic() - began
    until("nobody is left", lambda: not os.path.exists(group) or not open(group + "/cgroup.procs").read().strip())
    assert get(f"/v1/processes/{bomb['id']}")["status"] == "exited"
    return f"{took:.2f} s"


def full(count):
    for folder in tree_of(cgroup()):
        try:
            if int(open(folder + "/pids.current").read()) >= count and open(folder + "/pids.max").read().strip() == str(count):
                return folder
        except (OSError, ValueError):
            pass
    return None


@as_shipped_and_as_root
def rate():
    """yes with outputBytesPerSecond 1000000 writes one megabyte a second, also in a terminal"""
    found = []
    for tty in (False, True):
        # A terminal of an emulated machine may not bring as much at all.
        free = share(tty, None)
        limited = share(tty, {"outputBytesPerSecond": 1_000_000})
        found.append(f"{limited:.3f} of {free:.3f} without")
        assert limited < 1.05 and limited > 0.95 * min(1, free / 2), found
    return " and ".join(found) + " megabytes a second"


def share(tty, limits):
    """What yes writes, in megabytes a second."""
    made = create("yes", tty=tty, limits=limits)
    time.sleep(3)
    first, began = written(made), time.monotonic()
    time.sleep(5)
    second, ended = written(made), time.monotonic()
    ask("POST", f"/v1/processes/{made['id']}/kill")
    return (second - first) / (ended - began) / 1e6


def written(process):
    return get(f"/v1/processes/{process['id']}?usage=true")["usage"]["outputBytes"]


@check
def nobody():
    """id as nobody says nobody, and what is not allowed says who is"""
    drop_in(ROOT)
    done = run("sh", "-c", "id; cd; pwd; grep NoNewPrivs /proc/self/status; echo $HOME $USER $LOGNAME $SHELL", user="nobody")
    assert done["stdout"].startswith("uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"), done
    assert "NoNewPrivs:\t1" in done["stdout"]
    # As another user the limits hold, too, terminals are that user's, and a kill reaches it.
    greedy = run(*GREEDY, user="nobody", limits={"memoryBytes": 64 * M})
    assert greedy["exitReason"] == "oom", greedy
    terminal = create("sh", "-c", "stat -c %U $(tty); exec sleep 1000", tty=True, user="nobody")
    text = until("who owns it", lambda: ask("GET", f"/v1/processes/{terminal['id']}/logs?format=text").body.decode())
    assert text.strip() == "nobody", text
    assert ask("POST", f"/v1/processes/{terminal['id']}/kill?waitMs=5000").json["status"] == "exited"
    listens = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 4711)); s.listen(); time.sleep(1000)"
    listening = create("python3", "-c", listens, user="nobody")
    found = get(f"/v1/processes/{listening['id']}/wait?port=4711&timeoutMs=60000")
    assert found["outcome"] == "matched", found
    refused = ask("POST", "/v1/processes/run", {"command": "id", "user": "daemon"})
    assert refused.status == 403, refused
    drop_in("")
    alone = ask("POST", "/v1/processes/run", {"command": "id", "user": "nobody"})
    assert alone.status == 501, alone
    assert alone.json["code"] == "user_unavailable", alone
    return f"{done['stdout']!r}; {refused.json['detail']}; {alone.json['detail']}"


@as_shipped_and_as_root
def given_back():
    """groups of ended trees are used again or gone, and none is left at the end"""
    for round in range(40):
        run("true", limits={"memoryBytes": 64 * M, "pids": 20 + round % 3})
    kept = len(tree_of(cgroup()))
    assert kept < 160, kept
    where = cgroup()
    systemctl("stop", "procring.service")
    assert not os.path.exists(where) or len(tree_of(where)) == 1, tree_of(where)
    return f"{kept} groups after 40 runs"


@check
def cost():
    """what memory and pids limits cost a run, in emulated time"""
    drop_in("")
    plain, limited = [], []
    for _ in range(6):
        for times, bounds in ((plain, None), (limited, {"memoryBytes": 64 * M, "pids": 50})):
            for _ in range(10):
                began = time.monotonic()
                run("true", limits=bounds)
                times.append(time.monotonic() - began)
    median = lambda times: sorted(times)[len(times) // 2]
    return f"{median(plain) * 1e3:.2f} ms without, {median(limited) * 1e3:.2f} ms with"
