"""The system-call table: number → handler, filled by the topic modules' ``@syscall`` functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from prong.cell.abi.numbers import NR

Handler = Callable[..., int]
H = TypeVar("H", bound=Handler)

TABLE: dict[int, tuple[Handler, int, str]] = {}
"""System call number → (handler, number of integer arguments it takes, name)."""


def syscall(name: str) -> Callable[[H], H]:
    """Register ``handler(kernel, task, *args)`` for the x86-64 system call ``name``.

    The handler gets as many raw unsigned 64-bit arguments as it has parameters after ``task`` (at most six) and returns
    the result (or raises SysErr, Wait). Raises KeyError for an unknown name, ValueError for a second handler.
    """
    number = NR[name]

    def register(handler: H) -> H:
        if number in TABLE:
            raise ValueError(f"two handlers for {name}")
        TABLE[number] = (handler, len(inspect.signature(handler).parameters) - 2, name)
        return handler

    return register


def s32(value: int) -> int:
    """The low 32 bits as a signed int (C ``int`` arguments)."""
    value &= 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


def s64(value: int) -> int:
    """64 bits as a signed int (C ``long``, ``off_t``)."""
    return value - 0x10000000000000000 if value & 0x8000000000000000 else value


def u32(value: int) -> int:
    """The low 32 bits, unsigned."""
    return value & 0xFFFFFFFF
