"""Facts read from the host: files under ``/proc``, ``/sys`` and ``/etc``, and a few system calls. No opinions.

Readers take the root of the file tree, so that a test can hand them another host's files.
"""

from __future__ import annotations

import grp
import os
import platform
import re
import resource
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

HOST = Path("/")
PROGRAM_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor: ``machine`` as in ``uname -m``; ``model`` and ``virtualization`` (``vmx``, ``svm``) if known."""

    machine: str
    model: str
    virtualization: str


@dataclass(frozen=True, slots=True)
class KvmDevice:
    """``/dev/kvm``.

    Attributes:
        present: whether there is such a device.
        open_errno: the error of opening it read-write; 0 is none.
        group: the group whose members may open it; empty if membership of none would help.
    """

    present: bool
    open_errno: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """``version`` 2, 1 or 0 (none); where this process stands in it; controllers it may make children under."""

    version: int
    path: str
    writable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard resource limits; -1 is unlimited. ``memlock`` in bytes."""

    open_files: int
    processes: int
    memlock: int


@dataclass(frozen=True, slots=True)
class Memory:
    """``total`` and ``available`` in bytes; ``overcommit`` is ``vm.overcommit_memory`` (2: strict)."""

    total: int
    available: int
    overcommit: int


@dataclass(frozen=True, slots=True)
class Space:
    """A file system at ``path``: whether the user may write there, total and free bytes for that user."""

    path: str
    writable: bool
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """How many subordinate user and group ids ``user`` has (subuid(5)); ``root`` needs none."""

    user: str
    root: bool
    uids: int
    gids: int


def _text(path: Path) -> str:
    """The file's text, or the empty string where the kernel has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def read_cpu(root: Path = HOST) -> Cpu:
    """The processor, from ``/proc/cpuinfo``."""
    info = _text(root / "proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", info, re.MULTILINE)
    words = flags.group(1).split() if flags else []
    return Cpu(platform.machine(), model.group(1) if model else "", next((w for w in words if w in ("vmx", "svm")), ""))


def read_kvm_device(root: Path = HOST) -> KvmDevice:
    """Open ``/dev/kvm`` as the engine would, and close it again."""
    path = root / "dev/kvm"
    try:
        found = path.stat()
    except FileNotFoundError:
        return KvmDevice(False, 0)
    group = _group(found.st_gid) if found.st_gid != 0 and found.st_mode & 0o060 == 0o060 else ""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return KvmDevice(stat.S_ISCHR(found.st_mode), error.errno or 0, group)
    return KvmDevice(stat.S_ISCHR(found.st_mode), 0, group)


def _group(gid: int) -> str:
    """The group's name, or its number where it has none (getgrgid raises KeyError then)."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def read_seccomp_actions(root: Path = HOST) -> frozenset[str]:
    """Seccomp filter actions the kernel offers (seccomp(2)); empty without filter support."""
    return frozenset(_text(root / "proc/sys/kernel/seccomp/actions_avail").split())


def read_max_map_count(root: Path = HOST) -> int:
    """``vm.max_map_count``: the most mappings one process may have; 0 if the kernel does not say."""
    return int(_text(root / "proc/sys/vm/max_map_count") or 0)


def read_memory(root: Path = HOST) -> Memory:
    """Memory of the host, from ``/proc/meminfo`` (kB there)."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE))
    overcommit = int(_text(root / "proc/sys/vm/overcommit_memory") or 0)
    return Memory(int(found.get("MemTotal", 0)) * 1024, int(found.get("MemAvailable", 0)) * 1024, overcommit)


def read_limits() -> Limits:
    """Hard limits of this process; a process may raise its soft limits up to them."""

    def hard(which: int) -> int:
        value = resource.getrlimit(which)[1]
        return -1 if value == resource.RLIM_INFINITY else value

    return Limits(hard(resource.RLIMIT_NOFILE), hard(resource.RLIMIT_NPROC), hard(resource.RLIMIT_MEMLOCK))


def read_space(path: Path) -> Space:
    """Space at ``path``, or at its nearest existing parent, where prong would make it."""
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    return Space(str(path), os.access(path, os.W_OK | os.X_OK), usage.total, usage.free)


def read_cgroups(root: Path = HOST) -> Cgroups:
    """This process's control groups (cgroups(7)): the v1 hierarchies where any has controllers, else the v2 one.

    A hybrid host mounts both, but each controller is in one of them, and those that limit are then in v1.
    """
    rows = [line.split(":", 2) for line in _text(root / "proc/self/cgroup").splitlines()]
    mounts = _cgroup_mounts(root)

    def folder(controller: str, path: str) -> Path:
        return root / mounts.get(controller, "/nonexistent").lstrip("/") / path.lstrip("/")

    v1 = [(name, path) for _, names, path in rows for name in names.split(",") if name and not name.startswith("name=")]
    if v1:
        return Cgroups(1, v1[0][1], tuple(sorted(name for name, path in v1 if os.access(folder(name, path), os.W_OK))))
    for _, names, path in rows:
        own = folder("cgroup2", path)
        if not names and (available := _text(own / "cgroup.controllers").split()):
            return Cgroups(2, path, tuple(available) if os.access(own / "cgroup.subtree_control", os.W_OK) else ())
    return Cgroups(0, "", ())


def _cgroup_mounts(root: Path) -> dict[str, str]:
    """Mount point by v1 controller name, and of ``cgroup2``, from ``/proc/self/mountinfo`` (proc(5))."""
    mounts: dict[str, str] = {}
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = before.split(" ")[4]
        if kind == "cgroup2":
            mounts.setdefault("cgroup2", point)
        elif kind == "cgroup":
            for option in options.split(","):
                mounts.setdefault(option, point)
    return mounts


def read_subordinate_ids(user: str, uid: int, root: Path = HOST) -> SubordinateIds:
    """Ranges of ``user`` (by name or number) in ``/etc/subuid`` and ``/etc/subgid``, added up."""

    def count(path: Path) -> int:
        rows = [line.split(":") for line in _text(path).splitlines() if line.count(":") == 2]
        return sum(int(size) for owner, _, size in rows if owner in (user, str(uid)) and size.isdigit())

    return SubordinateIds(user, uid == 0, count(root / "etc/subuid"), count(root / "etc/subgid"))


def program_version(name: str, *arguments: str) -> str | None:
    """First line a program says about its version, ``""`` if it says nothing; None if it is not on ``PATH``."""
    path = shutil.which(name)
    if path is None:
        return None
    command = [path, *(arguments or ("--version",))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PROGRAM_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""
