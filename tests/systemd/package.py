"""A later package, and the end of it. Last, since the package is gone then."""

import os
import time

from trial import *


@check
def later_package():
    """a later package is taken, keeps the configuration, and starts the service anew"""
    drop_in("", "# mine\n")
    before = main_pid()
    shell("apt-get", "install", "-y", "-q", "-o", "Dpkg::Options::=--force-confold", "/trial/later.deb")
    assert "# mine" in open("/etc/default/procring").read()
    assert shell("dpkg-query", "-W", "-f", "${Version}", "procring").endswith("+later")
    until("it is active", lambda: shown("ActiveState") == "active")
    assert main_pid() != before
    assert get("/v1/health")["status"] == "ok"


@check
def removed():
    """after a removal nothing runs, and after a purge nothing is left"""
    create("sh", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000")
    shell("apt-get", "remove", "-y", "-q", "procring")
    assert not pids_of("procring"), pids_of("procring")
    assert shown("ActiveState") in ("inactive", "failed"), shown("ActiveState")
    assert shown("ActiveState", "procring.socket") == "inactive"
    assert not os.path.exists("/usr/bin/procring") and os.path.exists("/etc/default/procring")
    assert not os.path.exists(SOCKET)
    shell("apt-get", "purge", "-y", "-q", "procring")
    for path in ("/etc/default/procring", "/var/lib/procring", "/usr/lib/systemd/system/procring.service"):
        assert not os.path.exists(path), path
    left = shell("find", "/etc/systemd", "/var/lib/systemd", "-name", "*procring*").split()
    assert not left, left
