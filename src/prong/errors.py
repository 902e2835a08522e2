"""Errors a person or a program can act on.

Every error prong raises on purpose is a :class:`ProngError`. It carries a stable ``code`` (what programs test), a
``message`` (what went wrong and where), a ``hint`` (what to do) and ``data`` (the facts, JSON-ready). Subclasses exist
only where a caller does something different next; nothing recognises an error by its text.
"""

from __future__ import annotations

from typing import ClassVar

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class ProngError(Exception):
    """Base of all deliberate errors.

    Args:
        message: what went wrong, where; one sentence, no trailing newline.
        hint: what to do about it; empty when there is nothing to do.
        code: overrides the class's stable code, lower-case words joined by ``_``.
        data: JSON-ready facts (limits, paths, counts).
    """

    default_code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, data: dict[str, Json] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.data: dict[str, Json] = data or {}

    def as_json(self) -> dict[str, Json]:
        """The one error shape, used by ``--json`` and later by HTTP: ``{code, message, hint, data}``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "data": self.data}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(ProngError):
    """The caller's input is wrong; ``data["field"]`` names it where there is one."""

    default_code = "invalid_input"


class NotFound(ProngError):
    """A named thing (image, template, snapshot, sandbox, file) does not exist."""

    default_code = "not_found"


class Conflict(ProngError):
    """The thing exists already, is in use, or is in the wrong state for this call."""

    default_code = "conflict"


class HostUnfit(ProngError):
    """This host lacks something (KVM, namespaces, a program); the hint says how to get it."""

    default_code = "host_unfit"


class Corrupt(ProngError):
    """Stored or imported bytes are not what they claim to be; nothing of them was loaded."""

    default_code = "corrupt"


class BuildFailed(ProngError):
    """An image or template build failed; ``data["log"]`` holds the last lines of its output."""

    default_code = "build_failed"


class LimitExceeded(ProngError):
    """A limit was hit; ``data`` has ``limit`` (its name), ``allowed`` and, where known, ``used``."""

    default_code = "limit_exceeded"


class SandboxGone(ProngError):
    """The sandbox ended (exited, killed, crashed); ``data["reason"]`` says how."""

    default_code = "sandbox_gone"
