"""A program under a plain PTY: what a terminal without a server in between shows.

In: a JSON argument (command, args, cwd, env, cols, rows); on standard input one JSON array a
line, ["input", base64] or ["resize", cols, rows]. Out: the program's raw output, and its exit
code as ours (128 + n after signal n).
"""

import base64
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios


def set_size(fd, cols, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def main():
    job = json.loads(sys.argv[1])
    pid, master = pty.fork()
    if pid == 0:
        set_size(0, job["cols"], job["rows"])
        os.chdir(job["cwd"])
        os.execvpe(job["command"], [job["command"], *job["args"]], {**os.environ, **job["env"]})
    watched, orders = [master, 0], b""
    while True:
        ready, _, _ = select.select(watched, [], [])
        if master in ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the last user of the terminal is gone
                data = b""
            if not data:
                break
            write_all(1, data)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:  # nobody is there any more
                os.kill(pid, signal.SIGKILL)
                break
            *lines, orders = (orders + data).split(b"\n")
            for order in map(json.loads, lines):
                if order[0] == "resize":
                    set_size(master, order[1], order[2])
                else:
                    write_all(master, base64.b64decode(order[1]))
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


main()
