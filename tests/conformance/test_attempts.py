"""Modules that hang, crash and are refused things, run in real cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from prong.cell.engine import Cell, Template
from prong.conformance.cases import ModuleResult, Totals
from prong.conformance.incell import __file__ as runner_file
from prong.conformance.suite import Bench, Rules, run_module

pytestmark = pytest.mark.kvm

RUNNER = "/root/incell.py"
HELPER = """
import os, signal, socket, time, unittest

class Cases(unittest.TestCase):
    def test_a(self): pass
    def test_b_hangs(self): time.sleep(1000)
    def test_c(self): pass
    def test_d_crashes(self): os.abort()
    def test_e_leaves(self): os._exit(3)
    def test_f_is_refused(self): os.fork()
    def test_g_fails(self): self.assertEqual(1, 2)
    def test_h_prints(self): print("x" * 100_000); os.write(1, b"\\x1e{not json\\n")
    def test_i_closes(self): os.closerange(0, 3)
    def test_j(self): pass

class Fixture(unittest.TestCase):
    @classmethod
    def setUpClass(cls): time.sleep(1000)
    def test_k(self): pass
    def test_l(self): pass

class Last(unittest.TestCase):
    def test_m(self): pass
"""


class SampleBench:
    """Forks of the default template, with a module of our own put into the suite."""

    def __init__(self, template: Template, source: str) -> None:
        self._template = template
        self.source = source

    @property
    def template(self) -> SampleBench:
        return self

    def fork(self, *, limits: Any) -> Cell:
        cell = self._template.fork()
        version = cell.run("import sys; '%d.%d' % sys.version_info[:2]").text
        assert version is not None
        cell.files.write(f"/usr/lib/python{version.strip(chr(39))}/test/test_sample.py", self.source)
        cell.files.write(RUNNER, Path(runner_file).read_bytes())
        return cell

    def close(self) -> None:
        """The template stays."""


def outcome_of(template: Template, source: str, monkeypatch: pytest.MonkeyPatch) -> ModuleResult:
    monkeypatch.setattr("prong.conformance.suite.RUNNER", RUNNER)
    bench = cast(Bench, SampleBench(template, source))
    return run_module(bench, "test_sample", Rules(silence=4, wall=200))


@pytest.mark.slow
def test_a_module_goes_on_after_what_it_loses(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    result = outcome_of(template, HELPER, monkeypatch)
    told = [(case.id.rpartition(".")[2], case.outcome, bool(case.refused)) for case in result.cases]
    assert told == [
        ("test_a", "passed", False),
        ("test_b_hangs", "hung", False),
        ("test_c", "passed", False),
        ("test_d_crashes", "crashed", False),
        ("test_e_leaves", "crashed", False),
        ("test_f_is_refused", "error", True),
        ("test_g_fails", "failed", False),
        ("test_h_prints", "passed", False),
        ("test_i_closes", "passed", False),
        ("test_j", "passed", False),
        ("Fixture)", "hung", False),
        ("test_m", "passed", False),
    ]
    assert result.attempts == 5 and not result.trouble
    details = {case.id.rpartition(".")[2]: case.detail for case in result.cases}
    assert "time.sleep" in details["test_b_hangs"] or "test_b_hangs" in details["test_b_hangs"]
    assert "SIGABRT" in details["test_d_crashes"] and "code 3" in details["test_e_leaves"]
    assert Totals.of([result]).broken == 4


def test_modules_that_do_not_begin(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, outcome in (
        ("import nowhere", "error"),
        ("import unittest\nraise unittest.SkipTest('not here')", "skipped"),
        ("import os\nos._exit(4)", "crashed"),
        ("def test_main(): pass", "passed"),
    ):
        (case,) = outcome_of(template, source, monkeypatch).cases
        assert case.outcome == outcome, source


def test_waiting_for_a_refused_process_is_ended_early_and_left_out(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prong.conformance.attempt.REFUSED_SILENCE", 1.0)
    source = """
import os, time, unittest
class T(unittest.TestCase):
    def test_waits(self):
        try:
            os.fork()
        except PermissionError:
            time.sleep(1000)
"""
    result = outcome_of(template, source, monkeypatch)
    (case,) = result.cases
    assert case.outcome == "hung" and case.refused == 1 and "refused call" in case.detail
    assert Totals.of([result]).good
