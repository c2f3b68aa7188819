"""A server that is killed and upgraded under systemd, with the drop-in of docs/operations.md."""

import os
import signal
import shutil
import time

from trial import *


KEPT = documented("--keep")


def worker():
    """The server below the keeper."""
    keeper = main_pid()
    found = shell("pgrep", "-P", str(keeper), "-x", "procring-server", check=False).stdout.split()
    return int(found[0]) if found else None


def steady():
    """A process that goes on, and how far it is."""
    made = create("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done")
    return made


def goes_on(process):
    """Its log is without a gap and grows."""
    lines = lambda: ask("GET", f"/v1/processes/{process['id']}/logs?format=text").body.decode().split()
    before = lines()
    after = until("it grows", lambda: (found := lines()) and len(found) > len(before) and found)
    assert after == [str(number) for number in range(1, len(after) + 1)], after[-5:]
    assert alive(process["pid"])


@check
def killed_server():
    """with --keep a killed server is followed by another, and systemd sees one service"""
    drop_in(KEPT)
    before, keeper = worker(), main_pid()
    process = steady()
    for _ in range(3):
        before = worker()
        os.kill(before, signal.SIGKILL)
        until("another server", lambda: worker() not in (None, before))
        assert get("/v1/health")["status"] == "ok"
        goes_on(process)
        assert main_pid() == keeper and shown("ActiveState") == "active" and shown("NRestarts") == "0"
    # The watchdog still hears of it.
    time.sleep(35)
    assert shown("ActiveState") == "active" and main_pid() == keeper
    bounded = run("python3", "-c", "x = bytearray(10**9)", limits={"memoryBytes": 64 << 20})
    assert bounded["exitReason"] == "oom", bounded
    goes_on(process)


@check
def reload_is_an_upgrade():
    """systemctl reload and procring upgrade have the installed program take over"""
    drop_in(KEPT)
    process = steady()
    keeper = main_pid()
    old = os.readlink(f"/proc/{keeper}/exe")
    # As a package does: another file under the name.
    shutil.copy2("/usr/bin/procring", "/usr/bin/procring.new")
    os.rename("/usr/bin/procring.new", "/usr/bin/procring")
    assert os.readlink(f"/proc/{keeper}/exe").endswith("(deleted)")
    systemctl("reload", "procring.service")
    until("the new program", lambda: os.readlink(f"/proc/{keeper}/exe") == "/usr/bin/procring")
    until("it is active", lambda: shown("ActiveState") == "active")
    assert get("/v1/health")["status"] == "ok"
    goes_on(process)
    assert main_pid() == keeper and shown("NRestarts") == "0"
    said = shell("procring", "upgrade", "--url", f"unix:{SOCKET}")
    until("it is active", lambda: shown("ActiveState") == "active")
    goes_on(process)
    assert main_pid() == keeper
    began = time.monotonic()
    systemctl("stop", "procring.service")
    assert not pids_of("procring"), pids_of("procring")
    return f"{said.strip()!r}, stop {time.monotonic() - began:.1f} s"


@check
def hung_server():
    """with --keep a server that hangs is found by the watchdog"""
    drop_in(KEPT + "WatchdogSec=10\nTimeoutAbortSec=5\n")
    keeper, before = main_pid(), worker()
    os.kill(before, signal.SIGSTOP)
    until("another server", lambda: worker() not in (None, before), within=90)
    until("it answers", lambda: shown("ActiveState") == "active")
    assert get("/v1/health")["status"] == "ok"
    return "the keeper is another one, too" if main_pid() != keeper else "the keeper is the same"
