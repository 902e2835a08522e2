"""The verdict on one fact about the host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is, by what the user loses."""

    OK = "ok"
    WARN = "warn"  # cells run; something else does not, or a limit is low
    FAIL = "fail"  # cells cannot run on this host as it is


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at, a few words; stable, programs may select by it.
        status: see :class:`Status`.
        found: what is there, one line.
        advice: what to do, with the exact command; empty only when the status is ``ok``.
    """

    name: str
    status: Status
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.status is Status.OK) == bool(self.advice):
            raise ValueError(f"check {self.name!r}: advice goes with warn and fail, and only with them")

    def as_json(self) -> dict[str, str]:
        """``{name, status, found, advice}``, all strings."""
        return {"name": self.name, "status": self.status.value, "found": self.found, "advice": self.advice}


def ok(name: str, found: str) -> Check:
    """A check that found nothing wrong."""
    return Check(name, Status.OK, found)


def warn(name: str, found: str, advice: str) -> Check:
    """A check that leaves cells running."""
    return Check(name, Status.WARN, found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """A check that says cells cannot run."""
    return Check(name, Status.FAIL, found, advice)
