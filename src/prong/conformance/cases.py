"""What comes out of a run: cases, modules, totals, and the rule by which they are counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

PASSING = frozenset({"passed", "expected"})
FAILING = frozenset({"failed", "error", "hung", "crashed"})
OUTCOMES = PASSING | FAILING | {"skipped"}
REQUIRED = 98.0
"""Percent of the counted cases that have to pass."""


@dataclass(frozen=True)
class Case:
    """One case: its unittest id, outcome, seconds, refusals recorded during it, and the end of its traceback or reason."""

    id: str
    outcome: str
    seconds: float
    refused: int
    detail: str = ""

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """From a line of the runner in the cell. Raises KeyError, ValueError, TypeError for anything else."""
        outcome = str(raw["outcome"])
        if outcome not in OUTCOMES:
            raise ValueError(f"no such outcome: {outcome[:40]!r}")
        detail = str(raw["detail"])[:4000]
        return cls(str(raw["id"])[:400], outcome, float(raw["seconds"]), int(raw["refused"]), detail)


@dataclass
class ModuleResult:
    """Everything about one module.

    ``seconds`` of wall time, in ``attempts`` cells; ``trouble``: what went wrong outside of cases; ``calls``: the refused
    system calls by kind.
    """

    name: str
    cases: list[Case] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 0
    trouble: str = ""
    calls: dict[str, list[str]] = field(default_factory=dict)

    @property
    def left_out(self) -> list[Case]:
        """Cases that the layer had a part in refusing."""
        return [case for case in self.cases if case.refused and case.outcome != "skipped"]

    @property
    def counted(self) -> list[Case]:
        """Cases that count."""
        return [case for case in self.cases if not case.refused and case.outcome != "skipped"]

    @property
    def passed(self) -> int:
        """Counted cases that passed."""
        return sum(case.outcome in PASSING for case in self.counted)

    @property
    def failures(self) -> list[Case]:
        """Counted cases that did not pass."""
        return [case for case in self.counted if case.outcome in FAILING]

    @property
    def skipped(self) -> list[Case]:
        """Cases that the suite skipped itself."""
        return [case for case in self.cases if case.outcome == "skipped"]

    @property
    def broken(self) -> list[Case]:
        """Counted cases that hung or crashed. One that waits for ever for a process it was refused is not among them."""
        return [case for case in self.counted if case.outcome in ("hung", "crashed")]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "cases": [asdict(case) for case in self.cases]}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        return cls(**{**raw, "cases": [Case(**case) for case in raw["cases"]]})


@dataclass(frozen=True)
class Totals:
    """Sums over modules; ``rate`` is percent of the counted cases that passed."""

    modules: int
    cases: int
    passed: int
    failed: int
    refused: int
    skipped: int
    broken: int

    @classmethod
    def of(cls, modules: Iterable[ModuleResult]) -> Self:
        """Add up."""
        results = list(modules)
        return cls(
            modules=len(results),
            cases=sum(len(m.cases) for m in results),
            passed=sum(m.passed for m in results),
            failed=sum(len(m.failures) for m in results),
            refused=sum(len(m.left_out) for m in results),
            skipped=sum(len(m.skipped) for m in results),
            broken=sum(len(m.broken) + bool(m.trouble) for m in results),
        )

    @property
    def rate(self) -> float:
        """Percent; 100 when nothing counts."""
        counted = self.passed + self.failed
        return 100.0 * self.passed / counted if counted else 100.0

    @property
    def good(self) -> bool:
        """Whether the requirement is met: the rate, and nothing hung or crashed."""
        return self.rate >= REQUIRED and not self.broken

    def to_json(self) -> dict[str, Any]:
        """All of it, and the rate."""
        return {**asdict(self), "rate": round(self.rate, 3), "required": REQUIRED, "good": self.good}
