"""The limits of one cell, and the named report made when one is hit."""

from __future__ import annotations

from dataclasses import dataclass

from prong.cell.core.saved import saved
from prong.errors import InvalidInput

MIB = 1 << 20


@saved("limits")
@dataclass(frozen=True)
class Limits:
    """What one cell may use as long as it lives; limits of one call are ``RunOptions``'.

    ``memory`` counts physical frames given to the program, in bytes; ``overlay`` the bytes of files it writes; ``threads``
    counts live threads, ``files`` open descriptors.
    """

    memory: int = 256 * MIB
    overlay: int = 64 * MIB
    threads: int = 256
    files: int = 1024

    def __post_init__(self) -> None:
        if self.memory < 16 * MIB or self.memory > 1 << 37:
            raise InvalidInput(f"memory limit {self.memory} is outside 16 MiB…128 GiB", data={"field": "memory"})
        for field in ("overlay", "threads", "files"):
            value = getattr(self, field)
            if value <= 0:
                raise InvalidInput(f"limit {field} must be positive, not {value}", data={"field": field})
