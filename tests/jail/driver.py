"""The process a jail is closed around in these tests: a small spawner. Run as ``python -I driver.py JSON``.

It closes the jail, forks one process for each attack or need, and writes what became of each to a descriptor. It knows
nothing of pytest, and imports nothing that is not part of prong or of these tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

CONFIG: dict[str, Any] = json.loads(sys.argv[1])
sys.path[:0] = CONFIG["path"]

from prong.cell.jail import (  # noqa: E402  (the path to it comes from the configuration)
    CgroupLimits,
    Degradation,
    Identity,
    Jail,
    JailSpec,
    Rlimits,
    enter,
    libc,
    preload,
    vmm_policy,
)
from prong.errors import ProngError  # noqa: E402
from tests.jail import attacks, needs  # noqa: E402

REPORT: int = CONFIG["report"]


def main() -> None:
    """Everything; ends the process."""
    preload()
    code = _i386_code()
    leaks = [os.open("/", os.O_RDONLY), os.open("/etc/passwd", os.O_RDONLY), os.memfd_create("leak")]
    leaks += [fcntl.fcntl(leaks[0], fcntl.F_DUPFD, 500)]
    assert not set(leaks) & set(CONFIG["keep"])
    guardian = os.getpid()
    jail = _close() if CONFIG["mode"] != "outside" else None
    if jail and CONFIG["mode"] == "born_sealed":
        jail.seal()
    outcomes = {name: _one(name, jail, guardian, code) for name in CONFIG["names"]}
    _say({"jail": jail.report.as_json() if jail else None, "outcomes": outcomes, "pid": os.getpid()})
    if CONFIG["hold"]:
        os.read(CONFIG["stream"], 1)  # until the other end closes
    os._exit(CONFIG["code"])


def _say(answer: object) -> None:
    os.write(REPORT, json.dumps(answer).encode() + b"\n")


def _close() -> Jail:
    identity = Identity(CONFIG["identity"], CONFIG["identity"]) if CONFIG["identity"] else None
    try:
        spec = JailSpec(
            root=Path(CONFIG["image"]),
            policy=vmm_policy(needs.REQUESTS),
            keep_fds=frozenset(CONFIG["keep"]),
            identity=identity,
            rlimits=Rlimits(**CONFIG["rlimits"]),
            cgroup=CgroupLimits(**CONFIG["cgroup"]) if CONFIG["cgroup"] else None,
            allow=frozenset(Degradation(name) for name in CONFIG["allow"]),
        )
        return enter(spec)
    except ProngError as error:
        _say({"error": error.as_json(), "type": type(error).__name__})
        os._exit(3)


def _i386_code() -> int:
    """Where ``mov eax, 20; int 0x80; ret`` lies, executable; the mapping stays for good."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory[:8] = bytes.fromhex("b814000000cd80c3")
    anchor = ctypes.c_char.from_buffer(memory)
    _kept.append(anchor)
    return ctypes.addressof(anchor)


_kept: list[object] = []


def _one(name: str, jail: Jail | None, guardian: int, code: int) -> str:
    """Forks, seals if told to, makes the attempt, and says what became of it."""
    victim, lifeline = _victim()
    target = attacks.Target(
        victim=victim,
        host_pid=guardian,
        secret=CONFIG["secret"],
        image="" if jail else CONFIG["image"],
        unix_path=CONFIG["unix_path"],
        abstract=CONFIG["abstract"],
        port=CONFIG["port"],
        stream=CONFIG["stream"],
        i386_code=code,
    )
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        signal.alarm(30)  # a hang is an outcome too
        if jail and CONFIG["mode"] == "sealed":
            jail.seal()
        _attempt(name, target, writing)
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = os.read(reading, 4096).decode()
    os.close(reading)
    os.close(lifeline)
    os.waitpid(victim, 0)
    return said or (signal.Signals(-status).name if status < 0 else f"exit {status}")


def _victim() -> tuple[int, int]:
    """A process that waits until the descriptor is closed; it would let anybody trace it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        with contextlib.suppress(OSError):
            libc.prctl(0x59616D61, -1)  # PR_SET_PTRACER_ANY, where there is Yama
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    return pid, writing


def _attempt(name: str, target: attacks.Target, answer: int) -> NoReturn:
    said = "done"
    try:
        if name in attacks.NAMES:
            attacks.find(name)(target)
        else:
            needs.find(name)(CONFIG["kvm"] if name == "run_a_guest" else CONFIG["stream"])
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, str(error))
        if name not in attacks.NAMES:
            said = traceback.format_exc()
    except (AssertionError, ImportError, MemoryError) as error:
        said = f"{type(error).__name__}: {error}"
    os.write(answer, said.encode()[:4000])
    os._exit(0)


if __name__ == "__main__":
    main()
