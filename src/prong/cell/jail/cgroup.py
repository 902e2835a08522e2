"""An optional cgroup around a spawner and its cells: memory and number of processes, all of them together.

rlimits bound each process; only a cgroup bounds their sum. Version 2 needs a delegated subtree (``Delegate=yes`` of
systemd), version 1 a writable directory of its hierarchy, which in practice means root. Source: Linux
``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/{memory,pids}.rst``.
"""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from prong.cell.jail.layers import Fact, Layer
from prong.errors import Conflict, HostUnfit

_PROC = Path("/proc/self")
PREFIX = "prong-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """What all processes of a jail may use together: ``memory`` in bytes, ``processes`` at once; ``None``: no limit."""

    memory: int | None = None
    processes: int | None = None

    def settings(self, version: int) -> dict[str, dict[str, str]]:
        """Controller to file to text, as cgroup ``version`` 1 or 2 has them."""
        wanted: dict[str, dict[str, str]] = {}
        if self.memory is not None:
            wanted["memory"] = {"memory.limit_in_bytes" if version == 1 else "memory.max": str(self.memory)}
        if self.processes is not None:
            wanted["pids"] = {"pids.max": str(self.processes)}
        return wanted


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup made for one jail: one directory in version 2, one for each controller in version 1."""

    version: int
    directories: tuple[Path, ...]

    def join(self, pid: int) -> None:
        """Moves process ``pid`` in; what it forks from then on is born there."""
        for directory in self.directories:
            (directory / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Removes it, once all of its processes have ended; one that is gone already is no error.

        Raises:
            Conflict: processes are left in it.
        """
        for directory in self.directories:
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                raise Conflict(f"cgroup {directory} still has processes", data={"path": str(directory)}) from error


def own_directories(proc: Path = _PROC) -> dict[str, tuple[int, Path]]:
    """Controller to (version, directory of the cgroup this process is in), for the hierarchies that are mounted.

    Args:
        proc: the process's directory in /proc.
    """
    paths: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path  # version 2 has no name
    found: dict[str, tuple[int, Path]] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        root, mounted_at = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup":
            for name in set(options.split(",")) & paths.keys():
                found[name] = (1, _below(Path(mounted_at), root, paths[name]))
        elif kind == "cgroup2" and "" in paths:
            here = _below(Path(mounted_at), root, paths[""])
            for name in _words(here / "cgroup.controllers"):
                found.setdefault(name, (2, here))
    return found


def _below(mounted_at: Path, root: str, path: str) -> Path:
    """Where cgroup ``path`` is seen under a mount of ``root`` of its hierarchy (in a container, not all of it is)."""
    relative = os.path.relpath(path, root)
    return mounted_at if relative.startswith("..") else mounted_at / relative


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def create(limits: CgroupLimits, *, proc: Path = _PROC) -> Cgroup:
    """Makes a cgroup with ``limits`` below the caller's own (version 2: or beside it, where the caller sits in a leaf).

    Raises:
        HostUnfit: a controller is missing or may not be used by this user; nothing is left behind.
    """
    own = own_directories(proc)
    wanted = limits.settings(2)
    missing = sorted(wanted.keys() - own.keys())
    if missing:
        raise _unfit(f"controller {missing[0]} is not available", errno.ENOENT)
    versions = {own[controller][0] for controller in wanted}
    if len(versions) > 1:
        raise _unfit("memory and pids are in hierarchies of different versions", errno.EXDEV)
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    version = versions.pop() if versions else 2
    made: list[Path] = []
    try:
        if version == 2 and wanted:
            parent = _delegated(own[next(iter(wanted))][1], set(wanted))
            made.append(_make(parent / name, {k: v for files in wanted.values() for k, v in files.items()}))
        for controller, files in limits.settings(1).items() if version == 1 else ():
            directory = own[controller][1] / name
            if directory not in made:
                made.append(_make(directory, files))
    except OSError as error:
        Cgroup(version, tuple(made)).remove()
        raise _unfit(str(error), error.errno) from error
    return Cgroup(version, tuple(made))


def _make(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir()
    try:
        for file, text in files.items():
            (directory / file).write_text(text)
    except OSError:
        directory.rmdir()
        raise
    return directory


def _delegated(here: Path, controllers: set[str]) -> Path:
    """The nearest of this cgroup and its parent that hands ``controllers`` down; one with processes in it cannot."""
    switch = " ".join(f"+{name}" for name in sorted(controllers))
    if not controllers <= set(_words(here / "cgroup.subtree_control")):
        try:
            (here / "cgroup.subtree_control").write_text(switch)
        except OSError as error:
            if error.errno != errno.EBUSY:  # "no internal processes": ours is a leaf, so look one up
                raise
            here = here.parent
            if not controllers <= set(_words(here / "cgroup.subtree_control")):
                (here / "cgroup.subtree_control").write_text(switch)
    return here


def _unfit(why: str, code: int | None) -> HostUnfit:
    return HostUnfit(
        f"the jail's layer {Layer.CGROUP.value} cannot be had on this host: {why}",
        hint="run the daemon as a systemd service with Delegate=yes, or allow the degradation no_cgroup",
        code="jail_unfit",
        data={"layer": Layer.CGROUP.value, "errno": errno.errorcode.get(code or 0, str(code))},
    )


def verify(cgroup: Cgroup, limits: CgroupLimits, pid: int) -> tuple[Fact, ...]:
    """The fact that ``pid`` is in it and the limits are in force; nothing where that does not hold."""
    inside = all(str(pid) in _words(directory / "cgroup.procs") for directory in cgroup.directories)
    held = [
        f"{file} {(directory / file).read_text().strip()}"
        for files in limits.settings(cgroup.version).values()
        for file in files
        for directory in cgroup.directories
        if (directory / file).exists()
    ]
    return (Fact(Layer.CGROUP, f"version {cgroup.version}: {', '.join(held)}"),) if inside and held else ()
