"""The whole suite: one template, one cell per module, several at a time, and what to do when one is lost."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from prong.cell.engine import Engine, Template
from prong.cell.engine.engine import TemplateSpec
from prong.cell.limits import MIB, Limits
from prong.conformance.attempt import Attempt, HostHung
from prong.conformance.cases import Case, ModuleResult
from prong.errors import NotFound, ProngError
from prong.image.events import Progress, silent
from prong.image.spec import load_spec
from prong.store.paths import Paths

IMAGE = "testsuite"
TEMPLATE = "conformance"
RUNNER = "/usr/lib/prong/conformance/incell.py"
LIMITS = Limits(memory=1024 * MIB, overlay=512 * MIB, threads=1024, files=4096)
MOST_ATTEMPTS = 12
"""Cells for one module before the rest of it is given up."""

_WARM = """\
import os
os.makedirs(os.path.dirname({path!r}))
with open({path!r}, "w") as file:
    file.write({source!r})
import unittest, test.support, test.support.os_helper, test.support.threading_helper, test.support.socket_helper
import test.support.import_helper, test.support.warnings_helper, test.libregrtest.setup, test.libregrtest.runtest
import test.libregrtest.utils, argparse, fcntl, json, random, tempfile, traceback
"""

Step = Callable[[str], None]


@dataclass(frozen=True)
class Rules:
    """How to run: cells at a time, seconds of silence after which a case counts as hung, seconds for one module."""

    jobs: int = 2
    silence: float = 120.0
    wall: float = 1800.0


class Bench:
    """One worker's engine with the template loaded; made anew when a host of it hung.

    Each worker has its own, so that getting rid of a hung host takes nobody else's cells along.
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._engine: Engine | None = None
        self._template: Template | None = None

    @property
    def template(self) -> Template:
        """The loaded template."""
        if self._template is None:
            self._engine = Engine(self.paths)
            self._template = self._engine.template(TEMPLATE)
        return self._template

    def close(self) -> None:
        """End every process of this worker."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._template = None


def prepare(paths: Paths, *, step: Step = lambda _: None, images: Progress = silent) -> None:
    """Build the image if it is not there, and the template unless it is there and made by this source tree of that image.

    Raises BuildFailed, HostUnfit.
    """
    source = Path(__file__).with_name("incell.py").read_text(encoding="utf-8")
    warm = _WARM.format(path=RUNNER, source=source)
    with Engine(paths) as engine:
        image = engine.images.build(load_spec(IMAGE), progress=images)  # at once if it is there
        stamp = paths.templates / f".{TEMPLATE}.stamp"
        wanted = f"{image.digest} {hashlib.sha256(warm.encode()).hexdigest()} {source_digest()}"
        if _exists(engine) and stamp.is_file() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        spec = TemplateSpec(TEMPLATE, image=image.digest, warm=warm, memory=LIMITS.memory)
        engine.create_template(spec, replace=True, step=step)
        stamp.write_text(wanted)


def _exists(engine: Engine) -> bool:
    try:
        engine.templates.get(TEMPLATE)
    except NotFound:
        return False
    return True


def source_digest() -> str:
    """SHA-256 over the sources a template's state depends on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in ("cell", "guest", "kvm"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def find_modules(paths: Paths) -> list[str]:
    """Every module of the suite, by regrtest's own search."""
    bench = Bench(paths)
    try:
        attempt = Attempt(bench.template.fork(limits=LIMITS), RUNNER, _request(None), silence=60, wall=120)
        attempt.run()
    finally:
        bench.close()
    if not attempt.modules:
        raise ProngError("the suite's modules could not be listed", data={"log": attempt.verdict().detail})
    return attempt.modules


def _request(module: str | None, first: int = 0, avoid: Iterable[str] = ()) -> dict[str, object]:
    return {"module": module, "first": first, "avoid": list(avoid)}


def run_module(bench: Bench, name: str, rules: Rules) -> ModuleResult:
    """One module, in as many cells as it takes: after a case that hung or crashed, the rest runs in a new one."""
    result = ModuleResult(name)
    began = time.monotonic()
    first = 0
    avoid: list[str] = []
    while result.attempts < MOST_ATTEMPTS:
        result.attempts += 1
        left = rules.wall - (time.monotonic() - began)
        try:
            cell = bench.template.fork(limits=LIMITS)
            attempt = Attempt(cell, RUNNER, _request(name, first, avoid), silence=rules.silence, wall=left)
            attempt.run()
        except HostHung as e:
            result.trouble = e.message
            bench.close()
        except ProngError as e:
            result.trouble = f"{e.code}: {e.message}"
            bench.close()
            break
        result.cases += attempt.cases
        for refused in cell.refused:
            calls = result.calls.setdefault(refused.kind, [])
            if refused.call not in calls:
                calls.append(refused.call)
        if attempt.done:
            break
        lost = attempt.verdict()
        result.cases.append(_with_host(lost, bench))
        running = attempt.running
        if running.next_ordinal is None or left <= 0:
            break
        if (running.next_ordinal, running.avoid) == (first, None) and not attempt.cases:
            break
        first = running.next_ordinal
        if running.avoid is not None:
            avoid.append(running.avoid)
    else:
        result.trouble = f"given up after {MOST_ATTEMPTS} lost cells"
    result.seconds = round(time.monotonic() - began, 2)
    return result


def _with_host(case: Case, bench: Bench) -> Case:
    """With what the host process wrote to its stderr, if that is what went wrong."""
    if "host_crashed" not in case.detail:
        return case
    words = bench.template.spawner.last_words()[-2000:]
    return Case(case.id, case.outcome, case.seconds, case.refused, f"{case.detail}\n{words}")


class Run:
    """All modules over ``rules.jobs`` workers. ``results`` comes in order of completion."""

    def __init__(self, paths: Paths, modules: list[str], rules: Rules) -> None:
        self.paths = paths
        self.rules = rules
        self.running: dict[str, float] = {}
        self._todo = queue.SimpleQueue[str]()
        self._done = queue.SimpleQueue[ModuleResult | BaseException]()
        self._count = len(modules)
        self._stop = threading.Event()
        for name in modules:
            self._todo.put(name)

    def _work(self) -> None:
        bench = Bench(self.paths)
        try:
            while not self._stop.is_set():
                name = self._todo.get_nowait()
                self.running[name] = time.monotonic()
                self._done.put(run_module(bench, name, self.rules))
                del self.running[name]
        except queue.Empty:
            return
        except BaseException as e:  # noqa: BLE001  # handed to the thread that asks for results
            self._done.put(e)
        finally:
            bench.close()

    def __iter__(self) -> Run:
        for at in range(min(self.rules.jobs, self._count)):
            threading.Thread(target=self._work, name=f"conformance-{at}", daemon=True).start()
        return self

    def __next__(self) -> ModuleResult:
        if not self._count:
            raise StopIteration
        self._count -= 1
        item = self._done.get()
        if isinstance(item, BaseException):
            self._stop.set()
            raise item
        return item

    def wait(self, timeout: float) -> None:
        """Sleep a little, for a display that wants to be redrawn."""
        with contextlib.suppress(queue.Empty):
            self._done.put(self._done.get(timeout=timeout))
