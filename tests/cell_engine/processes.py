"""Looking at the processes behind cells, from outside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from prong.cell.engine import Cell
from prong.cell.engine.spawner import Spawner


def parents(*, dead: bool = False) -> dict[int, int]:
    """pid → parent of every live process; with ``dead`` also of those nobody has waited for."""
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if dead or state != "Z":
            found[int(entry.name)] = int(parent)
    return found


def descendants(pid: int, *, dead: bool = False) -> set[int]:
    """Every live process below ``pid``; with ``dead`` also zombies."""
    above = parents(dead=dead)
    found: set[int] = set()
    while more := {p for p, parent in above.items() if parent in found | {pid}} - found:
        found |= more
    return found


def host_of(spawner: Spawner, make: Callable[[], Cell]) -> tuple[Cell, int]:
    """A new cell and the process id of its host."""
    before = descendants(spawner.process.pid)
    cell = make()
    (pid,) = descendants(spawner.process.pid) - before
    return cell, pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def eventually(look: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether ``look`` comes true in time (a hang guard, not a measurement)."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
