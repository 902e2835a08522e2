"""The limits of one cell, and the named report made when one is hit."""

from __future__ import annotations

from dataclasses import dataclass

from prong.cell.core.saved import saved
from prong.errors import InvalidInput

MIB = 1 << 20


@saved("limits")
@dataclass(frozen=True)
class Limits:
    """What one cell may use. Bytes and seconds; None means no limit.

    ``memory`` counts physical frames given to the program; ``overlay`` the bytes of files it writes; ``output`` the bytes
    it may print per call; ``wall`` and ``cpu`` are per call, in seconds; ``threads`` counts live threads.
    """

    memory: int = 256 * MIB
    overlay: int = 64 * MIB
    output: int | None = 16 * MIB
    wall: float | None = None
    cpu: float | None = None
    threads: int = 256
    files: int = 1024

    def __post_init__(self) -> None:
        if self.memory < 16 * MIB or self.memory > 1 << 37:
            raise InvalidInput(f"memory limit {self.memory} is outside 16 MiB…128 GiB", data={"field": "memory"})
        for field in ("overlay", "output", "wall", "cpu", "threads", "files"):
            value = getattr(self, field)
            if value is not None and value <= 0:
                raise InvalidInput(f"limit {field} must be positive, not {value}", data={"field": field})
