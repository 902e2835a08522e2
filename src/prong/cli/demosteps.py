"""What ``prong demo`` does, step by step, each giving the facts it measured. Nothing here prints."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prong.cli.treeview import Node
from prong.errors import LimitExceeded, ProngError

if TYPE_CHECKING:
    from prong.cell.engine import Cell, Engine, Template
    from prong.cell.results import Execution
    from prong.errors import Json

FORKS = 50
OUTPUTS = 20
BRANCHES = 3
STEP_S = 0.05
STEPS = 24
FORK_AT_STEP = 6
PATIENCE_S = 60.0

NUMPY = """\
import numpy as np
a = np.random.default_rng(7).normal(size=(200, 200))
values = np.linalg.eigvalsh(a @ a.T)
print(f"numpy {np.__version__}: largest eigenvalue of a 200 x 200 matrix: {values[-1]:.3f}")
"""

WALK = f"""\
import random, socket, time
position, path = 0, []
for step in range({STEPS}):
    position += random.choice((-1, 1))
    path.append(position)
    print(f"step {{step + 1}}", flush=True)
    time.sleep({STEP_S})
print(socket.gethostname(), "ends at", position, path)
"""

LOOK = """\
import os
print(f"answer = {answer}, notes.txt", "is there" if os.path.exists("/root/notes.txt") else "is gone")
"""

REFUSED = """\
import subprocess
try:
    subprocess.run(["/usr/bin/id"])
except OSError as error:
    print(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """Measured milliseconds of something done ``len(samples)`` times."""

    id: str
    what: str
    samples: tuple[float, ...]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    @property
    def worst(self) -> float:
        """The longest."""
        return max(self.samples)

    def to_json(self) -> dict[str, Json]:
        """``{id, what, n, p50_ms, max_ms}``."""
        rounded = {"p50_ms": round(self.p50, 3), "max_ms": round(self.worst, 3)}
        return {"id": self.id, "what": self.what, "n": len(self.samples), **rounded}


@dataclass
class Facts:
    """Everything the demo found out."""

    root: Node
    timings: list[Timing] = field(default_factory=list)
    outputs: dict[str, Json] = field(default_factory=dict)

    def time(self, id: str, what: str, samples: list[float]) -> Timing:
        """Add a timing (``samples`` in seconds)."""
        timing = Timing(id, what, tuple(s * 1e3 for s in samples))
        self.timings.append(timing)
        return timing

    def to_json(self) -> dict[str, Json]:
        """``{outputs, timings, tree}``."""
        timings: list[Json] = [timing.to_json() for timing in self.timings]
        return {"outputs": self.outputs, "timings": timings, "tree": self.root.to_json()}


class Demo:
    """The steps, over one loaded template. Every cell it makes is ended by :meth:`close`."""

    def __init__(self, engine: Engine, template: Template) -> None:
        self.engine = engine
        self.template = template
        self.facts = Facts(Node(template.name, "template"))
        self._cells = ExitStack()

    def close(self) -> None:
        """End the cells."""
        self._cells.close()

    def run_numpy(self) -> str:
        """Fork the template, compute in the fork, return what it printed."""
        with self.template.fork() as cell:
            started = time.perf_counter()
            printed = _ok(cell.run(NUMPY)).stdout
            self.facts.time("demo.numpy", "run numpy code in a fresh fork", [time.perf_counter() - started])
        self._node(cell, "numpy", "computed eigenvalues").ended = True
        self.facts.outputs["numpy"] = printed
        return printed

    def time_forks(self) -> Timing:
        """Fork the template, one after the other."""
        samples = []
        for _ in range(FORKS):
            started = time.perf_counter()
            cell = self.template.fork_many(1)[0]
            samples.append(time.perf_counter() - started)
            cell.close()
        return self.facts.time("demo.fork", "fork the template: a new virtual machine, running", samples)

    def time_output(self) -> Timing:
        """From asking for a fork to the first output of code in it."""
        samples = [_until_output(lambda: self.template.fork_many(1)[0]) for _ in range(OUTPUTS)]
        return self.facts.time("demo.fork_to_output", "fork the template and see its first output", samples)

    def time_pool(self) -> Timing:
        """The same with cells that were forked ahead of demand, as long as the pool lasts."""
        self.template.keep_pool(OUTPUTS)
        deadline = time.monotonic() + PATIENCE_S
        while self.template.parked < OUTPUTS:
            if self.template.trouble is not None:
                raise self.template.trouble
            if time.monotonic() > deadline:
                raise LimitExceeded(f"no {OUTPUTS} parked cells within {PATIENCE_S:g} s", data={"limit": "demo"})
            time.sleep(0.01)
        self.template.keep_pool(0)  # so that refilling does not compete with what is measured
        samples = [_until_output(self.template.fork) for _ in range(OUTPUTS)]
        return self.facts.time("demo.pool_to_output", "the same from a pool of cells forked ahead", samples)

    def branch(self) -> list[str]:
        """Fork one cell in the middle of a running loop into several; each goes on by itself. Returns their last lines."""
        cell = self._keep(self.template.fork())
        node = self._node(cell, "walker", f"random walk, forked at step {FORK_AT_STEP} of {STEPS}")
        with _running(cell, WALK) as run:
            run.wait_for(f"step {FORK_AT_STEP}\n")
            started = time.perf_counter()
            forks = cell.fork(BRANCHES)
            self.facts.time("demo.live_fork", f"fork it while it runs, {BRANCHES} at once", [time.perf_counter() - started])
            for number, fork in enumerate(forks, 1):
                self._keep(fork)
                self._node(fork, f"branch {number}", "went on by itself", node)
            ends = [_ok(fork.join(PATIENCE_S)) for fork in forks]
        lines = [_last_line(_ok(run.result())), *map(_last_line, ends)]
        self.facts.outputs["branches"] = list(lines)
        return lines

    def roll_back(self) -> tuple[str, str]:
        """Snapshot a cell, ruin it, roll it back. Returns what it says before and after rolling back."""
        cell = self._keep(self.template.fork())
        node = self._node(cell, "careful", "snapshot, damage, rollback")
        _ok(cell.run("answer = 42\nopen('/root/notes.txt', 'w').write('precious')"))
        started = time.perf_counter()
        snapshot = self.engine.snapshot(cell, "demo")
        self.facts.time("demo.snapshot", "snapshot a cell to disk", [time.perf_counter() - started])
        try:
            node.add(Node(snapshot.id, "snapshot", note="removed again after the demo"))
            _ok(cell.run("import os; answer = None; os.remove('/root/notes.txt')"))
            ruined = _ok(cell.run(LOOK)).stdout.strip()
            started = time.perf_counter()
            cell = self._keep(self.engine.rollback(cell, snapshot))
            restored = _ok(cell.run(LOOK)).stdout.strip()
            self.facts.time("demo.rollback", "roll back from disk and run code", [time.perf_counter() - started])
        finally:
            self.engine.snapshots.rm(snapshot.id, force=True)
        self.facts.outputs["rollback"] = {"damaged": ruined, "restored": restored}
        return ruined, restored

    def refuse(self) -> tuple[str, str]:
        """Try what a cell refuses by design. Returns what the code saw, and the advice that comes with the result."""
        cell = self._keep(self.template.fork())
        execution = _ok(cell.run(REFUSED))
        self._node(cell, "refused", "tried to start a second process")
        advice = next((f"{item.call}: {item.advice}" for item in execution.refused), "")
        self.facts.outputs["refused"] = {"printed": execution.stdout, "advice": advice}
        return execution.stdout.strip(), advice

    def _keep(self, cell: Cell) -> Cell:
        return self._cells.enter_context(cell)

    def _node(self, cell: Cell, label: str, note: str, parent: Node | None = None) -> Node:
        return (parent or self.facts.root).add(Node(cell.id, "cell", label, note))


def _until_output(fork: Callable[[], Cell]) -> float:
    """Seconds from asking for a fork to the first output of code in it."""
    first: list[float] = []
    started = time.perf_counter()
    with fork() as cell:
        _ok(cell.run("print('hello')", on_stdout=lambda _: first.append(time.perf_counter())))
    return first[0] - started


def _ok(execution: Execution) -> Execution:
    """``execution``, or an error with what it said: the demo shows nothing that did not really work."""
    if execution.ok and execution.ended is None:
        return execution
    raise ProngError(
        f"code of the demo ended with status {execution.exit_code}{f': {execution.ended}' if execution.ended else ''}",
        code="demo_failed",
        data={"execution": execution.to_json()},
    )


def _last_line(execution: Execution) -> str:
    return execution.stdout.rstrip().rpartition("\n")[2]


class _Background:
    """Code running in a cell on a thread of its own."""

    def __init__(self, start: Callable[[Callable[[str], None]], Execution]) -> None:
        self._changed = threading.Condition()
        self._output = ""
        self._outcome: Execution | ProngError | None = None
        self.thread = threading.Thread(target=self._body, args=(start,), name="prong-demo", daemon=True)
        self.thread.start()

    def _body(self, start: Callable[[Callable[[str], None]], Execution]) -> None:
        try:
            outcome: Execution | ProngError = start(self._heard)
        except ProngError as error:
            outcome = error
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()

    def _heard(self, text: str) -> None:
        with self._changed:
            self._output += text
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Until it printed ``text`` or ended. Raises LimitExceeded when it takes too long."""
        with self._changed:
            if not self._changed.wait_for(lambda: text in self._output or self._outcome is not None, PATIENCE_S):
                raise LimitExceeded(f"no {text!r} within {PATIENCE_S:g} s", data={"limit": "demo"})

    def result(self) -> Execution:
        """Wait for its end and return what it did. Raises what it raised, LimitExceeded when it takes too long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._outcome is not None, PATIENCE_S):
                raise LimitExceeded(f"no end within {PATIENCE_S:g} s", data={"limit": "demo"})
        if isinstance(self._outcome, ProngError):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


@contextmanager
def _running(cell: Cell, code: str) -> Iterator[_Background]:
    """Run ``code`` beside the block. An error in the block ends the cell, and with it the thread."""
    background = _Background(lambda heard: cell.run(code, on_stdout=heard))
    try:
        yield background
    except BaseException:
        cell.close()
        raise
