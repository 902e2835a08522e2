"""One cell running one module: read its lines, notice when nothing comes any more, say which case it was."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from prong.cell.engine import Cell
from prong.cell.results import Execution
from prong.conformance.cases import Case
from prong.errors import ProngError

RECORD = "\x1e"
STDERR_TAIL = 3000
LAST_WORDS = 3.0
"""Seconds a hung program gets to write its threads' tracebacks."""
REFUSED_SILENCE = 20.0
"""Seconds of silence after a call was refused: long enough for a test to notice, most that do not wait for ever."""
DYING = 20.0
"""Seconds a killed cell has before its host counts as hung."""


class HostHung(ProngError):
    """A cell's host did not even react to the program being killed."""

    default_code = "host_hung"


@dataclass
class Running:
    """What is known to run right now: a label, the ordinal to go on from afterwards, refusals by then, since when.

    ``avoid``: the class to leave out if this is lost. ``asked``: its refusals were looked at after a silence.
    """

    label: str = "import"
    next_ordinal: int | None = None
    refused: int = 0
    avoid: str | None = None
    since: float = field(default_factory=time.monotonic)
    asked: bool = False


class Attempt:
    """A run of the runner in one cell. ``run`` returns when the module is done, hangs, or takes the cell down.

    Attributes:
        cases: those that ended. modules: the answer to asking for the suite's modules. done: whether all of it was run.
        running: what was running at the end. stuck: why it was ended from outside, or empty.
    """

    def __init__(self, cell: Cell, path: str, request: dict[str, Any], *, silence: float, wall: float) -> None:
        self.cell = cell
        self.path = path
        self.request = request
        self.silence = silence
        self.wall_end = time.monotonic() + wall
        self.cases: list[Case] = []
        self.modules: list[str] = []
        self.done = False
        self.running = Running()
        self.stuck = ""
        self.refused_at_kill = 0
        self.execution: Execution | None = None
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._rest = ""

    def run(self) -> None:
        """Run it. Raises HostHung."""
        thread = threading.Thread(target=self._drive, name=f"conformance {self.request['module']}", daemon=True)
        thread.start()
        try:
            self._watch()
        finally:
            self.cell.close()
        if not self._over.wait(DYING):
            raise HostHung(f"the host of {self.request['module']} does not react ({self.running.label})")

    def _drive(self) -> None:
        """In a thread of its own: run the program to its end."""
        try:
            self.execution = self.cell.run(
                None,
                mode="file",
                filename=self.path,
                argv=(self.path, json.dumps(self.request)),
                stdin=b"",
                output=None,
                on_stdout=self._feed,
            )
        except ProngError as e:
            self.stuck = self.stuck or f"{e.code}: {e.message}"
        finally:
            self._over.set()

    def _watch(self) -> None:
        """Until the module is done or the cell is gone; ends a cell that has been silent for too long."""
        while not self._over.wait(0.05):
            if self.done:
                return
            now = time.monotonic()
            silent = now - self._heard
            if silent > self.silence:
                self._end(f"nothing was heard for {self.silence:g} s")
            elif silent > REFUSED_SILENCE and self._refused_in(self.running):
                self._end(f"nothing was heard for {REFUSED_SILENCE:g} s after a refused call")
            elif now > self.wall_end:
                self._end("the module ran out of time")

    def _refused_in(self, running: Running) -> bool:
        """Whether a call was refused during what runs now; asked once for each."""
        if running.asked:
            return False
        running.asked = True
        try:
            return self.cell.stats()["refused"] > running.refused
        except ProngError:  # the cell is on its way out, which the next look at it tells
            return False

    def _end(self, reason: str) -> None:
        self.stuck = reason
        with contextlib.suppress(ProngError):
            self.cell.signal(signal.SIGUSR1)  # faulthandler writes the tracebacks of all threads
            self._over.wait(LAST_WORDS)
            self.refused_at_kill = self.cell.stats()["refused"]
            self.cell.signal(signal.SIGKILL)
            self._over.wait(DYING)

    # -- lines ------------------------------------------------------------------------------------------------------------

    def _feed(self, text: str) -> None:
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith(RECORD):
                self._line(json.loads(line[1:]))

    def _line(self, raw: dict[str, Any]) -> None:
        if "outcome" in raw:
            self.cases.append(Case.parse(raw))
            self.running = Running("between cases", self.running.next_ordinal, self.running.refused)
        elif "start" in raw:
            self.running = Running(str(raw["id"]), _after(raw["start"]), int(raw["refused"]))
        elif "fixture" in raw:
            label = str(raw["fixture"])
            kind, _, name = label.rstrip(")").partition(" (")
            avoid = name if kind == "setUpClass" else None
            at = None if kind == "setUpModule" else raw["at"]
            self.running = Running(label, at, int(raw["refused"]), avoid)
        elif "modules" in raw:
            self.modules = [str(name) for name in raw["modules"]]
        elif "done" in raw:
            self.done = True

    # -- afterwards -------------------------------------------------------------------------------------------------------

    def verdict(self) -> Case:
        """The case that stands for what was running when the cell was lost."""
        execution = self.execution
        hung = bool(self.stuck)
        ended = self.stuck or (execution.ended if execution is not None else None) or "the program ended early"
        refused = self.refused_at_kill if hung else self._refused_at_end()
        tail = execution.stderr[-STDERR_TAIL:] if execution is not None else ""
        return Case(
            id=self.running.label,
            outcome="hung" if hung else "crashed",
            seconds=round(time.monotonic() - self.running.since, 1),
            refused=max(0, refused - self.running.refused),
            detail=f"{ended}\n{tail}",
        )

    def _refused_at_end(self) -> int:
        ending = self.cell.ended
        return ending.usage.get("refused", 0) if ending is not None else 0


def _after(ordinal: Any) -> int | None:
    """The ordinal after this one; None for a case without."""
    return ordinal + 1 if isinstance(ordinal, int) else None
