"""Whether this user can make the namespaces a jail is built from, found by making them in a child process.

Being allowed to call ``unshare`` is not enough: distributions that restrict user namespaces let the call succeed and
then withhold every capability inside (Ubuntu's AppArmor policy does), so the child also maps its ids and mounts.
"""

from __future__ import annotations

import subprocess
import sys

TIMEOUT_S = 10.0

# Runs as its own program: user_namespaces(7) wants a single-threaded caller, and nothing of it may touch this process.
# The flags are those of unshare(2); the mount flags those of mount(2).
_CHILD = """
import ctypes, os, sys

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
REC, PRIVATE = 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)

def call(what, result):
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")

def write(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        sys.exit(f"writing {path}: {error.strerror}")

uid, gid = os.getuid(), os.getgid()
call("unshare(CLONE_NEWUSER)", libc.unshare(NEWUSER))
write("/proc/self/setgroups", "deny")
write("/proc/self/uid_map", f"0 {uid} 1")
write("/proc/self/gid_map", f"0 {gid} 1")
call("unshare(mount, pid, net, ipc)", libc.unshare(NEWNS | NEWPID | NEWNET | NEWIPC))
call("making mounts private", libc.mount(None, b"/", None, REC | PRIVATE, None))
call("mounting a tmpfs", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
"""


def try_namespaces() -> str:
    """Make user, mount, pid, net and ipc namespaces in a child and mount in them.

    Returns:
        The empty string if it worked, else what failed and why, one line.
    """
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"the attempt did not end within {TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return ""
    return done.stderr.strip().rpartition("\n")[2] or f"the attempt ended with status {done.returncode}"
