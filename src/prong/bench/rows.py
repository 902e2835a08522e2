"""Rows, percentiles, and the registry of probes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prong.errors import InvalidInput, Json

if TYPE_CHECKING:
    from prong.cell.engine import Engine


@dataclass(frozen=True)
class Row:
    """One figure. Times are milliseconds in ``p50`` and ``p99``; other figures are ``value`` in ``unit``.

    ``bar`` is the figure prong aims at (the same unit), ``note`` says in a few words what was measured.
    """

    id: str
    n: int
    note: str
    p50: float | None = None
    p99: float | None = None
    value: float | None = None
    unit: str = "ms"
    bar: float | None = None
    higher_is_better: bool = False

    @property
    def figure(self) -> float:
        """The figure that is held against ``bar``."""
        figure = self.value if self.value is not None else self.p50
        return math.nan if figure is None else figure

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None if there is none."""
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.higher_is_better else self.figure <= self.bar

    def as_json(self) -> dict[str, Json]:
        """The row as ``prong bench --json`` prints it."""
        return {
            "id": self.id,
            "n": self.n,
            "p50_ms": _rounded(self.p50),
            "p99_ms": _rounded(self.p99),
            "value": _rounded(self.value),
            "unit": self.unit,
            "bar": self.bar,
            "note": self.note,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def percentile(values: Iterable[float], fraction: float) -> float:
    """The smallest value that at least ``fraction`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(math.ceil(fraction * len(ordered)) - 1, 0)]


def timed(id: str, seconds: list[float], note: str, *, bar: float | None = None) -> Row:
    """A row of durations, given in seconds."""
    ms = [s * 1e3 for s in seconds]
    return Row(id, len(ms), note, p50=statistics.median(ms), p99=percentile(ms, 0.99), bar=bar)


clock = time.perf_counter
"""Seconds; what every probe measures with."""


@dataclass(frozen=True)
class Probe:
    """A measurement: the ids of the rows it gives, and the function that makes them."""

    ids: tuple[str, ...]
    run: Callable[[Engine, float], list[Row]]


PROBES: list[Probe] = []
"""All probes, in the order they run."""


def probe(*ids: str) -> Callable[[Callable[[Engine, float], list[Row]]], Callable[[Engine, float], list[Row]]]:
    """Register a probe function ``(engine, scale) -> rows``; ``scale`` multiplies how often it measures."""

    def register(function: Callable[[Engine, float], list[Row]]) -> Callable[[Engine, float], list[Row]]:
        PROBES.append(Probe(ids, function))
        return function

    return register


def chosen(prefixes: tuple[str, ...]) -> list[Probe]:
    """The probes that give a row beginning with one of ``prefixes`` (all if empty). InvalidInput if one matches nothing."""
    for prefix in prefixes:
        if not any(i.startswith(prefix) for p in PROBES for i in p.ids):
            known = ", ".join(i for p in PROBES for i in p.ids)
            raise InvalidInput(f"no benchmark row begins with {prefix!r}", hint=f"rows: {known}", data={"field": "only"})
    return [p for p in PROBES if not prefixes or any(i.startswith(x) for i in p.ids for x in prefixes)]
