#!/usr/bin/env python3
"""Records the demonstration in README: real commands in a real terminal of a real server.

    docs/demo.py PROGRAM > docs/demo.svg

PROGRAM is the built procring. The terminal is one of its own, typed into and read by its own command
line; what its screen shows at the end is drawn as text in an SVG.
"""

import html
import json
import os
import re
import subprocess
import sys
import tempfile
import time

COLS, ROWS = 84, 26
COMMANDS = [
    ("procring run -- sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done'", "3\n$ "),
    ("tar c src | procring run -- sh -c 'tar t | wc -l'", "\n$ "),
    ("procring start --name web -- python3 -m http.server 8000", "proc_"),
    ("procring wait web --port 8000 && curl -sI localhost:8000 | head -1", "200"),
    ("procring ps", "http.server"),
    ("procring logs --tail 1 web", "HEAD"),
    ("procring stop web && procring wait web", "143"),
]


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(program, os.path.join(folder, "procring"))
        path = folder + ":" + os.environ["PATH"]
        env = dict(os.environ, PATH=path, PS1="$ ", TERM="xterm-256color", HISTFILE="")
        env.pop("PROCRING_URL", None)
        server = subprocess.Popen(
            [program, "server", "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True, env=env
        )
        try:
            url = None
            while url is None:
                found = re.search(r"listening on (http://\S+)", server.stderr.readline())
                url = found and found.group(1)
            env["PROCRING_URL"] = url
            lines = record(program, env)
        finally:
            server.terminate()
            server.wait()
    sys.stdout.write(svg(lines))


def record(program, env):
    def procring(*args):
        done = subprocess.run([program, *args], env=env, check=True, capture_output=True, text=True)
        return done.stdout

    request = {
        "command": "bash",
        "args": ["--norc", "--noprofile"],
        "tty": True,
        "cols": COLS,
        "rows": ROWS,
        "name": "demo",
        "env": {key: env[key] for key in ("PATH", "PS1", "TERM", "HISTFILE", "PROCRING_URL")},
    }
    subprocess.run(
        ["curl", "-sf", env["PROCRING_URL"] + "/v1/processes", "-H", "content-type: application/json"]
        + ["-d", json.dumps(request)],
        check=True,
        capture_output=True,
    )

    def screen():
        shown = json.loads(procring("screen", "--json", "demo"))
        return "\n".join(shown["lines"]).rstrip()

    def settle(typed, expected):
        until = time.monotonic() + 30
        while time.monotonic() < until:
            text = screen() + " "
            after = text.rpartition(typed)[2] if typed else text
            if expected in after and after.rstrip().endswith("$"):
                return
            time.sleep(0.05)
        sys.exit(f"{typed!r} did not show {expected!r}:\n{text}")

    settle("", "$")
    for command, expected in COMMANDS:
        procring("input", "--line", "demo", command)
        settle(command[-20:], expected)
    return screen().split("\n")


def svg(lines):
    width, height, line_height = COLS * 8.4 + 32, (len(lines) + 1) * 18 + 24, 18
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="procring on the command line">',
        '<rect width="100%" height="100%" rx="8" fill="#14181f"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="#c9d1d9" '
        'xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        colour = ' fill="#7ee787"' if line.startswith("$ ") else ""
        y = 28 + number * line_height
        out.append(f'<text x="16" y="{y}"{colour}>{html.escape(line)}</text>')
    return "\n".join(out) + "\n</g>\n</svg>\n"


if __name__ == "__main__":
    main()
