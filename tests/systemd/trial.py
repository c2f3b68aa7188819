"""What the checks have in common: asking the server, asking systemd, and telling how it went."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
import traceback

SOCKET = "/run/procring.sock"
DROP_IN = "/run/systemd/system/procring.service.d/trial.conf"

# Emulated machines are some ten times slower than others.
PATIENCE = 120

checks = []


def check(function):
    """Has this run, under the name that its first line of documentation is."""
    checks.append(function)
    return function


def run_checks(words):
    passed, failed = 0, 0
    for function in checks:
        name = function.__doc__.strip().splitlines()[0]
        if words and function.__name__ != "installs" and not any(
            word in f"{function.__module__} {function.__name__} {name}" for word in words
        ):
            continue
        began = time.monotonic()
        try:
            said = function()
            passed += 1
            outcome = "passed"
        except Exception as error:  # Whatever it is, the next check is made.
            failed += 1
            outcome = "FAILED"
            said = "".join(traceback.format_exception_only(error)).strip()
            lines = traceback.extract_tb(error.__traceback__)
            said += " at " + ", ".join(f"{os.path.basename(l.filename)}:{l.lineno}" for l in lines[-3:])
            said += "\n" + journal(15)
        print(f"{outcome}: {name} ({time.monotonic() - began:.0f} s){': ' + str(said) if said else ''}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:500]!r}"


def ask(method, path, body=None, at=SOCKET, timeout=PATIENCE):
    connection = Unix(at, timeout) if isinstance(at, str) else http.client.HTTPConnection(*at, timeout=timeout)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def get(path, **more):
    answer = ask("GET", path, **more)
    assert answer.status == 200, answer
    return answer.json


def run(command, *args, limits=None, **more):
    body = {"command": command, "args": list(args), "timeoutMs": 100_000, **more}
    if limits:
        body["limits"] = limits
    answer = ask("POST", "/v1/processes/run", body)
    assert answer.status == 200, answer
    return answer.json


def create(command, *args, limits=None, **more):
    body = {"command": command, "args": list(args), **more}
    if limits:
        body["limits"] = limits
    answer = ask("POST", "/v1/processes", body)
    assert answer.status == 200, answer
    return answer.json


def until(what, condition, within=PATIENCE, every=0.1):
    """Waits until the condition holds, and returns what it was then."""
    ends = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends, f"not within {within} s: {what}"
        time.sleep(every)


def shell(*command, check=True, timeout=300):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout[-600:]} {done.stderr[-600:]}"
    return done.stdout + done.stderr if check else done


def systemctl(*command, **more):
    return shell("systemctl", *command, **more)


def shown(name, unit="procring.service"):
    return systemctl("show", "--value", "-p", name, unit).strip()


def main_pid():
    return int(shown("MainPID"))


def journal(lines):
    return shell("journalctl", "-u", "procring", "-n", str(lines), "-o", "cat", "--no-pager", check=False).stdout


def drop_in(text, environment=""):
    """Has the unit as it is shipped with this, begun anew; nothing is the unit as it is shipped."""
    systemctl("stop", "procring.service")
    if text:
        os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
        with open(DROP_IN, "w") as file:
            file.write("[Service]\n" + text)
    elif os.path.exists(DROP_IN):
        os.remove(DROP_IN)
    with open("/etc/default/procring", "w") as file:
        file.write(environment)
    systemctl("daemon-reload")
    systemctl("reset-failed", "procring.service", check=False)
    systemctl("start", "procring.socket")
    systemctl("start", "procring.service")


def documented(word):
    """The drop-in of docs/operations.md that has this word."""
    page = open("/trial/operations.md").read()
    blocks = re.findall(r"```ini\n\[Service\]\n(.*?)```", page, re.S)
    return next(block for block in blocks if word in block)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids_of(user):
    return shell("pgrep", "-u", user, check=False).stdout.split()


def cgroup():
    """Where the unit's cgroup is."""
    return "/sys/fs/cgroup" + shown("ControlGroup")


def tree_of(path):
    """How many directories are below this cgroup, itself included."""
    return [folder for folder, _, _ in os.walk(path)]
