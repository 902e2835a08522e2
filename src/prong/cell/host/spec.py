"""What the engine tells a cell host, parsed once into frozen values. The engine is trusted; mistakes still fail clearly."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from prong.cell.limits import Limits
from prong.errors import InvalidInput

STDIN, STDOUT, STDERR, CONTROL = 0, 1, 2, 3
"""Channel numbers on the control connection."""

SHOWN_ROOM = 1 << 20
"""Bytes a call may send as rich results, beside as many as its output limit says."""

CONTROL_FD = 1_000_003
"""The descriptor number of the control stream inside a cell: out of the way of every table and loop."""


def _build(cls: type[Any], raw: dict[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = set(raw) - known
    if unknown:
        raise InvalidInput(f"{cls.__name__} has no field {sorted(unknown)[0]!r}")
    return cls(**raw)


@dataclass(frozen=True)
class Identity:
    """What must differ between forks (the fork contract): made outside, from the host's entropy.

    ``generation`` counts forks along the line of descent.
    """

    hostname: str
    machine_id: str
    boot_id: str
    generation: int = 0

    @classmethod
    def fresh(cls, generation: int, hostname: str = "") -> Self:
        """A new identity; the hostname defaults to ``cell-`` and eight hex digits."""
        machine, boot = os.urandom(16).hex(), os.urandom(16).hex()
        boot_id = "-".join((boot[:8], boot[8:12], "4" + boot[13:16], "a" + boot[17:20], boot[20:]))
        return cls(hostname or f"cell-{machine[:8]}", machine, boot_id, generation)

    @property
    def generation_id(self) -> str:
        """What ``/run/prong/generation`` reads: different in every fork, siblings included."""
        return f"{self.generation}-{self.machine_id[:16]}"

    def pack(self) -> dict[str, Any]:
        """As sent."""
        return asdict(self)

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """As received."""
        return _build(cls, raw)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BootSpec:
    """A fresh program in a fresh cell: what to run, with which files added, limits and identity.

    ``files`` are (path, content, mode) written into the overlay first. ``control`` gives the program the hidden control
    stream (for prong's own runtime). ``cwd`` must exist in the image.
    """

    path: bytes
    argv: tuple[bytes, ...]
    environ: tuple[bytes, ...]
    cwd: bytes
    files: tuple[tuple[bytes, bytes, int], ...]
    control: bool
    limits: dict[str, Any]
    identity: dict[str, Any]

    def parsed_limits(self) -> Limits:
        """The limits as a checked value."""
        limits: Limits = _build(Limits, self.limits)
        return limits

    def pack(self) -> dict[str, Any]:
        """As sent."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """As received."""
        return _build(cls, raw)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CallLimits:
    """Limits of one call into the cell: seconds and bytes; None is no limit."""

    wall: float | None = None
    cpu: float | None = None
    output: int | None = None
