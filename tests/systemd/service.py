"""The unit and its socket, as they are shipped."""

import os
import pwd
import re
import signal
import threading
import time

from trial import *


@check
def installs():
    """the package installs, and the units are silent and active"""
    shell("apt-get", "install", "-y", "-q", "/trial/procring.deb")
    said = shell("systemd-analyze", "verify", "--man=no", "procring.service", "procring.socket")
    assert not said, said
    assert shown("ActiveState", "procring.socket") == "active"
    until("service is active", lambda: shown("ActiveState") == "active")
    return f"systemd {shell('systemctl', '--version').split()[1]}, kernel {os.uname().release}"


@check
def notify():
    """the service is active only when the server says so, and systemctl shows its words"""
    assert shown("Type") == "notify"
    systemctl("stop", "procring.service")
    with open("/run/wait", "w") as file:
        file.write("#!/bin/sh\nwhile [ ! -e /run/go ]; do sleep 0.2; done\nexec /usr/bin/procring \"$@\"\n")
    os.chmod("/run/wait", 0o755)
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, "w") as file:
        file.write("[Service]\nExecStart=\nExecStart=/bin/sh /run/wait server --listen systemd\nTimeoutStartSec=300\n")
    systemctl("daemon-reload")
    systemctl("start", "--no-block", "procring.service")
    until("it begins", lambda: shown("ActiveState") == "activating")
    time.sleep(3)
    assert shown("ActiveState") == "activating"
    open("/run/go", "w").close()
    until("it is active", lambda: shown("ActiveState") == "active")
    drop_in("")
    status = until("a status", lambda: shown("StatusText"))
    create("sleep", "1000")
    # The status is told with the watchdog.
    until("the process is in the status", lambda: "processes: 1 running" in shown("StatusText"))
    return f"{status!r}, then {shown('StatusText')!r}"


@check
def watchdog():
    """a stopped server is killed by the watchdog and started anew, and its processes are gone"""
    drop_in("WatchdogSec=10\nTimeoutAbortSec=5\n")
    before = main_pid()
    child = create("sleep", "1000")["pid"]
    time.sleep(25)
    assert main_pid() == before, "the watchdog bit a server that works"
    os.kill(before, signal.SIGSTOP)
    until("another main process", lambda: main_pid() not in (0, before))
    until("it is active", lambda: shown("ActiveState") == "active")
    assert get("/v1/health")["status"] == "ok"
    assert shown("NRestarts") == "1", shown("NRestarts")
    assert not alive(child)
    said = shell("journalctl", "-u", "procring", "-n", "40", "-o", "cat", "--no-pager")
    assert "Watchdog timeout" in said, said


@check
def reload():
    """systemctl reload has the configuration read anew, and what runs goes on"""
    with open("/etc/procring.toml", "w") as file:
        file.write("max_exited = 77\n")
    drop_in("", "PROCRING_CONFIG=/etc/procring.toml\n")
    before = main_pid()
    child = create("sleep", "1000")["pid"]
    limits = json.dumps(get("/v1/server")["limits"])
    assert '77' in limits, limits
    with open("/etc/procring.toml", "w") as file:
        file.write("max_exited = 78\n")
    systemctl("reload", "procring.service")
    until("the new limit", lambda: '78' in json.dumps(get("/v1/server")["limits"]))
    with open("/etc/procring.toml", "w") as file:
        file.write("max_exitde = 79\n")
    systemctl("reload", "procring.service", check=False)
    until("the mistake is told", lambda: "max_exited" in journal(20) and "nothing was reloaded" in journal(20))
    assert '78' in json.dumps(get("/v1/server")["limits"])
    until("active again", lambda: shown("ActiveState") == "active")
    assert main_pid() == before and alive(child)


@check
def activation():
    """who connects to the socket has the service started"""
    drop_in("")
    systemctl("stop", "procring.socket", "procring.service")
    systemctl("start", "procring.socket")
    assert shown("ActiveState") == "inactive"
    assert get("/v1/health")["status"] == "ok"
    assert shown("ActiveState") == "active"


def status_as(user, *more):
    done = shell(
        "setpriv", "--reuid", user, "--regid", user, "--init-groups",
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", SOCKET, "http://localhost/v1/health",
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"curl {done.returncode}"


@check
def users():
    """curl --unix-socket works for one user and not for another"""
    drop_in("")
    for name in ("alice", "bob"):
        shell("adduser", "--quiet", "--disabled-password", "--gecos", "", name)
    shell("adduser", "--quiet", "alice", "procring")
    found = {name: status_as(name) for name in ("root", "procring", "alice", "bob")}
    assert found == {"root": "200", "procring": "200", "alice": "403", "bob": "curl 7"}, found
    # As docs/operations.md has it.
    drop_in("", "PROCRING_UNIX_ALLOW_UID=alice\n")
    assert status_as("alice") == "200"
    assert status_as("bob") == "curl 7"
    return found


def stubborn():
    """A tree that does not want to end."""
    script = "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1000' & sleep 1000 & wait"
    return create("sh", "-c", script)["pid"]


@check
def stop():
    """a stop ends everything that was started, and the next start answers at once"""
    drop_in("ExecStart=\nExecStart=/usr/bin/procring server --listen systemd --listen 127.0.0.1:2468 --no-token\n")
    stubborn()
    create("sleep", "1000")
    until("all are there", lambda: len(pids_of("procring")) >= 6)
    began = time.monotonic()
    systemctl("stop", "procring.service")
    took = time.monotonic() - began
    assert not pids_of("procring"), pids_of("procring")
    assert shown("Result") == "success", shown("Result")
    for _ in range(5):
        # A unit is started only so often in so many seconds.
        systemctl("reset-failed", "procring.service")
        systemctl("start", "procring.service")
        assert ask("GET", "/v1/health", at=("127.0.0.1", 2468)).status == 200
        systemctl("restart", "procring.service")
        assert ask("GET", "/v1/health", at=("127.0.0.1", 2468)).status == 200
    return f"{took:.1f} s for trees that ignore SIGTERM"


@check
def restart():
    """a restart refuses nobody who connects to the socket"""
    drop_in("")
    over = threading.Event()
    answers, troubles = [], []

    def client():
        while not over.is_set():
            try:
                answers.append(ask("GET", "/v1/health").status)
            except ConnectionRefusedError as error:
                troubles.append(repr(error))
            except OSError:
                # A connection that the server had taken and that it closed at its end.
                answers.append(0)
            except http.client.HTTPException:
                answers.append(0)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        systemctl("restart", "procring.service")
        time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    assert not troubles, troubles[:3]
    cut = answers.count(0)
    assert set(answers) <= {0, 200, 503}, set(answers)
    return f"{len(answers)} answers, {answers.count(503)} of them 503, {cut} connections closed"


@check
def surroundings():
    """children see nothing of the service manager"""
    drop_in("")
    variables = run("env")["stdout"]
    for name in ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "INVOCATION_ID", "JOURNAL_STREAM", "PROCRING_"):
        assert name not in variables, variables
    descriptors = run("ls", "/proc/self/fd")["stdout"].split()
    assert descriptors == ["0", "1", "2", "3"], descriptors
    told = run("sh", "-c", "id; pwd; cat /proc/self/cgroup; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj")
    return told["stdout"].replace("\n", " | ")


@check
def verify_ids():
    """ids of processes go on over a restart"""
    drop_in("")
    before = create("true")["id"]
    systemctl("restart", "procring.service")
    after = create("true")["id"]
    number = lambda id: int(re.search(r"\d+$", id).group())
    assert number(after) > number(before), (before, after)
