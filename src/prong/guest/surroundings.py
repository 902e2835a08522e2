"""What a run asks for around its code (environment, directory, arguments), put in place and taken away again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from .contexts import Context

_environ = os.environ
_chdir = os.chdir
_getcwd = os.getcwd


class Surroundings:
    """The changes one run makes. ``apply`` under a guard, for a directory may be missing; ``undo`` always.

    Args:
        request: the ``run`` request; its ``env``, ``cwd`` and ``argv`` are used.
        context: whose directory is used and remembered when the request names none.
    """

    def __init__(self, request: Mapping[str, Any], context: Context | None) -> None:
        self._env: dict[str, str | None] | None = request.get("env")
        self._argv: list[str] | None = request.get("argv")
        self._context = context if context is not None and context.cwd is not None else None
        self._cwd: str | None = request.get("cwd") or (self._context.cwd if self._context else None)
        self._undo_env: dict[str, str | None] = {}
        self._undo_cwd: str | None = None
        self._undo_argv: list[str] | None = None

    def apply(self) -> None:
        """Make the changes. Raises OSError for a directory that cannot be entered, ValueError for a bad name."""
        if self._argv is not None:
            self._undo_argv = sys.argv
            sys.argv = list(self._argv)
        for name, value in (self._env or {}).items():
            self._undo_env[name] = _environ.get(name)
            _set_variable(name, value)
        if self._cwd is not None:
            before = _getcwd()
            _chdir(self._cwd)
            self._undo_cwd = before

    def undo(self) -> list[str]:
        """Take the changes back. Returns what could not be undone, in words."""
        problems = []
        if self._undo_argv is not None:
            sys.argv = self._undo_argv
        for name, value in self._undo_env.items():
            _set_variable(name, value)
        if self._undo_cwd is not None:
            try:
                if self._context is not None:
                    self._context.cwd = _getcwd()
                _chdir(self._undo_cwd)
            except OSError as error:  # the run removed a directory
                problems.append(f"the working directory could not be restored: {error}")
        return problems


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        _environ.pop(name, None)
    else:
        _environ[name] = value
