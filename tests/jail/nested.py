"""Runs a command as root of a user namespace in which no further user namespace can be made: a hardened host in small.

Run by root as ``python -I nested.py COMMAND…``; passes the command's exit code on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def main() -> None:
    """Everything; ends the process."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        assert ctypes.CDLL(None).unshare(0x1000_0000) == 0
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        os.execv(sys.argv[1], sys.argv[1:])
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text("0 0 65536")
    os.write(go[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
