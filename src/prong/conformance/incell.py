"""Runs inside a cell, as a program: one module of CPython's regression suite, one JSON line per test case.

Standard library only, and of that as little as possible while tests run: they patch and break things. Started as
``incell.py '{"module": …, "first": …, "avoid": […]}'``. Lines begin with the character RS (U+001E) and are one of

    {"found": N}                              this many cases were found so far
    {"start": K, "id": …, "refused": R}       case K begins; R refusals have been counted by now
    {"fixture": NAME, "at": K, "refused": R}  a class or module fixture runs before case K
    {"case": K, "id": …, "outcome": …, "seconds": …, "refused": R, "detail": …}
    {"done": true}

Conventions are regrtest's: ``test_main`` if the module has one, else unittest's loader (with ``load_tests``); resources
such as network and audio are off.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import unittest
from typing import Any

RECORD = "\x1e"
REFUSALS = "/proc/prong/refusals"
SEED = 20240229
FIRST_DESCRIPTOR = 200
DETAIL = 1500
FAULT_SIGNALS = (signal.SIGALRM, signal.SIGUSR1)

# Bound here, before any test can replace them.
_open, _read, _write, _close, _clock = os.open, os.read, os.write, os.close, time.monotonic
_loads, _dumps = json.JSONDecoder().decode, json.JSONEncoder().encode


class Lines:
    """Where the lines go: a private duplicate of standard output, which tests then cannot garble."""

    def __init__(self) -> None:
        self.fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
        os.dup2(2, 1)

    def send(self, **fields: object) -> None:
        """One line, whole."""
        data = (RECORD + _dumps(fields) + "\n").encode()
        while data:
            data = data[_write(self.fd, data) :]


def refusals() -> int:
    """How many calls the cell has refused by design so far; 0 where that is not told."""
    try:
        fd = _open(REFUSALS, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        text = b""
        while part := _read(fd, 1 << 16):
            text += part
    finally:
        _close(fd)
    return int(_loads(text.decode())["total"])


class Result(unittest.TestResult):
    """Turns unittest's events into lines. A case with several failing subtests is one failed case."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines = lines
        self.outcome = "passed"
        self.detail = ""
        self.before = refusals()
        self.began = _clock()
        self.current: unittest.TestCase | None = None

    def startTest(self, test: Any) -> None:
        """A case begins."""
        super().startTest(test)
        self.current = test
        self.outcome, self.detail = "passed", ""
        self.before = refusals()
        self.began = _clock()
        self.lines.send(start=ordinal(test), id=identifier(test), refused=self.before)

    def stopTest(self, test: Any) -> None:
        """A case ended: report it."""
        super().stopTest(test)
        self._report(test, ordinal(test))
        self.current = None

    def _report(self, test: Any, number: int | None) -> None:
        now = refusals()
        self.lines.send(
            case=number,
            id=identifier(test),
            outcome=self.outcome,
            seconds=round(_clock() - self.began, 4),
            refused=now - self.before,
            detail=self.detail,
        )
        self.before = now

    def _set(self, test: Any, outcome: str, detail: str) -> None:
        """Note how ``test`` ended; what is not a case of its own (a failed fixture) is reported at once."""
        worse = self.outcome in ("failed", "error") and outcome not in ("failed", "error")
        if not worse or self.current is None:
            self.outcome, self.detail = outcome, detail[-DETAIL:]
        if self.current is None:
            self._report(test, None)

    def addError(self, test: Any, err: Any) -> None:
        """It raised."""
        self._set(test, "error", shown(err))

    def addFailure(self, test: Any, err: Any) -> None:
        """An assertion failed."""
        self._set(test, "failed", shown(err))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        """A subtest ended; only failures count."""
        if err is not None:
            outcome = "failed" if issubclass(err[0], test.failureException) else "error"
            self._set(test, outcome, f"{subtest._subDescription()}\n{shown(err)}")

    def addSkip(self, test: Any, reason: str) -> None:
        """Skipped."""
        self._set(test, "skipped", str(reason))

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        """It failed, as it should."""
        self._set(test, "expected", "")

    def addUnexpectedSuccess(self, test: Any) -> None:
        """It passed, and should not have."""
        self._set(test, "failed", "unexpected success")


def shown(err: Any) -> str:
    """The traceback as text; what cannot be shown says so."""
    try:
        return "".join(traceback.format_exception(*err))
    except Exception as problem:  # noqa: BLE001  # an exception of a test, whose text may itself raise
        return f"{err[0].__name__} (not printable: {type(problem).__name__})"


def ordinal(test: Any) -> int | None:
    """The number the runner gave a case, in order of discovery; a test may make further cases itself, which have none."""
    number = getattr(test, "prong_ordinal", None)
    return number if isinstance(number, int) else None


class Runner:
    """Runs the suites of one module.

    Args:
        first: the ordinal of the first case to run; earlier ones ran before.
        avoid: classes whose fixtures hung or crashed before; their cases are not run.
    """

    def __init__(self, lines: Lines, first: int, avoid: list[str]) -> None:
        self.lines = lines
        self.first = first
        self.avoid = frozenset(avoid)
        self.count = 0
        self.ran = False

    def run_suite(self, suite: Any) -> None:
        """Stands in for ``test.support._run_suite``."""
        self._number(suite)
        self.lines.send(found=self.count)
        self.ran = True
        result = Result(self.lines)
        suite(result)

    def _number(self, suite: Any) -> None:
        kept = []
        for test in suite._tests:
            if isinstance(test, unittest.TestSuite):
                self._number(test)
                kept.append(test)
                continue
            number, self.count = self.count, self.count + 1
            if number >= self.first and class_name(test) not in self.avoid:
                test.prong_ordinal = number
                kept.append(test)
        suite._tests = kept

    def watch_fixtures(self) -> None:
        """Have every class and module fixture announce itself, so that one that hangs can be named."""
        for hook in ("_tearDownPreviousClass", "_handleModuleFixture", "_handleClassSetUp"):
            setattr(unittest.TestSuite, hook, self._announced(hook, getattr(unittest.TestSuite, hook)))

    def _announced(self, hook: str, original: Any) -> Any:
        def call(suite: Any, test: Any, result: Any) -> Any:
            if isinstance(result, Result):
                label = fixture_label(hook, type(test), getattr(result, "_previousTestClass", None))
                if label:
                    self.lines.send(fixture=label, at=ordinal(test), refused=refusals())
            return original(suite, test, result)

        return call


def fixture_label(hook: str, current: type, previous: type | None) -> str:
    """What is about to run between a case of ``previous`` and one of ``current``; empty if nothing is."""
    if current is previous:
        return ""
    if hook == "_handleClassSetUp":
        return f"setUpClass ({current.__module__}.{current.__qualname__})"
    if hook == "_tearDownPreviousClass":
        return f"tearDownClass ({previous.__module__}.{previous.__qualname__})" if previous is not None else ""
    return f"setUpModule ({current.__module__})" if previous is None or previous.__module__ != current.__module__ else ""


def identifier(test: Any) -> str:
    """A case's dotted name. Some tests have an attribute ``id`` of their own, so this asks their class."""
    return str(type(test).id(test))


def class_name(test: Any) -> str:
    """Dotted name of a case's class."""
    return f"{type(test).__module__}.{type(test).__qualname__}"


def set_up(support: Any, runner: Runner) -> None:
    """As ``python3 -m test`` does before the first module."""
    options = argparse.Namespace(
        testdir=None, huntrleaks=None, memlimit=None, threshold=None, verbose=0, use_resources=[], timeout=None, xmlpath=None
    )
    importlib.import_module("test.libregrtest.setup").setup_tests(options)
    importlib.import_module("test.libregrtest.utils").clear_caches()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    support._run_suite = runner.run_suite
    support.verbose = 0
    random.seed(SEED)


def run_module(name: str, support: Any, runner: Runner) -> None:
    """Import the module and run its tests. Raises whatever importing it raises."""
    sys.modules.pop(name, None)
    module = importlib.import_module(name)
    test_main = getattr(module, "test_main", None)
    if test_main is not None:
        test_main()
        return
    loader = unittest.TestLoader()
    tests = loader.loadTestsFromModule(module)
    for error in loader.errors:
        sys.stderr.write(str(error))
    support.run_unittest(tests)


def whole(lines: Lines, name: str, outcome: str, before: int, detail: str) -> None:
    """A line for the module as one case: it could not be imported, was skipped, or is one script."""
    lines.send(case=None, id=name, outcome=outcome, seconds=0, refused=refusals() - before, detail=detail[-DETAIL:])


def main(request: dict[str, Any]) -> None:
    """Run what the request names and send its lines."""
    lines = Lines()
    runner = Runner(lines, request["first"], request["avoid"])
    support = importlib.import_module("test.support")
    if request["module"] is None:
        found = importlib.import_module("test.libregrtest.runtest").findtests()
        lines.send(modules=found)
        lines.send(done=True)
        return
    name = f"test.{request['module']}"
    set_up(support, runner)
    os.chdir(tempfile.mkdtemp(prefix="prong_test_"))
    before = refusals()
    try:
        runner.watch_fixtures()
        run_module(name, support, runner)
        if not runner.ran and runner.first == 0:
            whole(lines, name, "passed", before, "")
    except unittest.SkipTest as reason:
        whole(lines, name, "skipped", before, str(reason))
    except BaseException:  # noqa: BLE001  # a test module may raise anything at import; it is the module's result
        whole(lines, name, "error", before, traceback.format_exc())
    lines.send(done=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
