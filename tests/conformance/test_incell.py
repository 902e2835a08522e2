"""The runner that works inside a cell, run here on small suites of its own."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from prong.conformance import incell


class Lines(incell.Lines):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, **fields: object) -> None:
        self.sent.append(fields)

    @property
    def cases(self) -> list[tuple[object, str, str]]:
        return [(s["case"], s["id"].rpartition(".")[2], s["outcome"]) for s in self.sent if "outcome" in s]


@pytest.fixture
def hooks() -> Iterator[None]:
    """Put unittest's fixture hooks back."""
    names = ("_tearDownPreviousClass", "_handleModuleFixture", "_handleClassSetUp")
    kept = {name: getattr(unittest.TestSuite, name) for name in names}
    yield
    for name, hook in kept.items():
        setattr(unittest.TestSuite, name, hook)


def run(*classes: type[unittest.TestCase], first: int = 0, avoid: tuple[str, ...] = (), fixtures: bool = False) -> Lines:
    lines = Lines()
    runner = incell.Runner(lines, first, list(avoid))
    if fixtures:
        runner.watch_fixtures()
    loader = unittest.TestLoader()
    runner.run_suite(unittest.TestSuite(loader.loadTestsFromTestCase(c) for c in classes))
    return lines


class Sample(unittest.TestCase):
    __test__ = False  # not for pytest

    def test_a_pass(self) -> None:
        """Passes."""

    def test_b_fail(self) -> None:
        self.fail("no")

    def test_c_error(self) -> None:
        raise RuntimeError("broken")

    @unittest.skip("not today")
    def test_d_skip(self) -> None:
        """Never runs."""

    @unittest.expectedFailure
    def test_e_expected(self) -> None:
        self.fail("as expected")

    @unittest.expectedFailure
    def test_f_unexpected(self) -> None:
        """Passes though it should not."""

    def test_g_subtests(self) -> None:
        for n in range(4):
            with self.subTest(n=n):
                self.assertEqual(n % 2, 0)

    def test_h_skips_itself_in_a_subtest(self) -> None:
        with self.subTest():
            self.skipTest("no")


class BadFixture(unittest.TestCase):
    __test__ = False

    @classmethod
    def setUpClass(cls) -> None:
        raise OSError("no fixture")

    def test_x(self) -> None:
        """Never runs."""


def test_every_outcome_is_told_once() -> None:
    lines = run(Sample)
    assert lines.sent[0] == {"found": 8}
    assert lines.cases == [
        (0, "test_a_pass", "passed"),
        (1, "test_b_fail", "failed"),
        (2, "test_c_error", "error"),
        (3, "test_d_skip", "skipped"),
        (4, "test_e_expected", "expected"),
        (5, "test_f_unexpected", "failed"),
        (6, "test_g_subtests", "failed"),
        (7, "test_h_skips_itself_in_a_subtest", "skipped"),
    ]
    details = {s["id"].rpartition(".")[2]: s["detail"] for s in lines.sent if "outcome" in s}
    assert "RuntimeError: broken" in details["test_c_error"] and details["test_d_skip"] == "not today"


def test_a_test_with_an_id_of_its_own() -> None:
    class Odd(unittest.TestCase):
        def setUp(self) -> None:
            self.id = 7  # type: ignore[method-assign,assignment]

        def test_x(self) -> None:
            """Passes."""

    assert [outcome for _, _, outcome in run(Odd).cases] == ["passed"]


def test_a_failed_fixture_is_one_case() -> None:
    lines = run(BadFixture)
    ((number, _, outcome),) = lines.cases
    assert (number, outcome) == (None, "error") and "setUpClass" in next(s for s in lines.sent if "outcome" in s)["id"]


def test_the_rest_after_a_lost_case() -> None:
    assert [number for number, _, _ in run(Sample, first=6).cases] == [6, 7]
    avoid = f"{Sample.__module__}.{Sample.__qualname__}"
    assert run(Sample, BadFixture, avoid=(avoid,)).cases[0][2] == "error"
    assert [s for s in run(Sample, avoid=(avoid,)).sent if "outcome" in s] == []


def test_fixtures_announce_themselves(hooks: None) -> None:
    lines = run(Sample, BadFixture, fixtures=True)
    told = [(s["fixture"].partition(" ")[0], s["at"]) for s in lines.sent if "fixture" in s]
    assert told == [
        ("setUpModule", 0),
        ("setUpClass", 0),
        ("tearDownClass", 8),
        ("setUpClass", 8),
        ("tearDownClass", None),
    ]


def test_refusals_are_counted_by_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    total = [10]
    monkeypatch.setattr(incell, "refusals", lambda: total[0])

    class Forks(unittest.TestCase):
        def test_fork(self) -> None:
            total[0] += 2

        def test_none(self) -> None:
            """Nothing is refused."""

    assert [s["refused"] for s in run(Forks).sent if "outcome" in s] == [2, 0]


def test_an_exception_that_cannot_be_shown() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise ValueError("never")

    assert "Nasty" in incell.shown((Nasty, Nasty(), None))
