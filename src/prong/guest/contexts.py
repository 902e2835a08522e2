"""Contexts: persistent namespaces, each with its count, its event loop and its working directory."""

from __future__ import annotations

import asyncio
import builtins
import sys
import types
from typing import Any

from .messages import MAIN_CONTEXT

_MISSING = object()


class Context:
    """One persistent namespace.

    Args:
        name: what requests call it.
        cwd: where its runs start, kept up to date when they change it; None leaves the process's directory alone.
    """

    def __init__(self, name: str, cwd: str | None = None) -> None:
        self.name = name
        self.cwd = cwd
        self.execution_count = 0
        self.future_flags = 0
        self.module = types.ModuleType("__main__")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: object = _MISSING

    @property
    def namespace(self) -> dict[str, Any]:
        """The globals of its code."""
        return self.module.__dict__

    def source_name(self, count: int) -> str:
        """The file name that code of this execution count has in tracebacks."""
        return f"<cell {count}>" if self.name == MAIN_CONTEXT else f"<cell {count} of {self.name}>"

    def activate(self) -> None:
        """Make its namespace the process's ``__main__``, as pickle and friends expect."""
        sys.modules["__main__"] = self.module

    def remember(self, value: object) -> None:
        """Bind ``_`` to the last result, unless user code has made that name its own."""
        namespace = self.namespace
        if namespace.get("_", _MISSING) is self._last:
            namespace["_"] = self._last = value

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop top-level awaits run on; made at first use and again if user code closed it."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        return self._loop

    def close(self) -> None:
        """Forget its objects; tasks still waiting on its loop are dropped with it."""
        if self._loop is not None and not self._loop.is_closed() and not self._loop.is_running():
            self._loop.close()
        self.namespace.clear()

    def as_json(self) -> dict[str, Any]:
        """What the ``contexts`` event says of it."""
        return {"name": self.name, "execution_count": self.execution_count, "cwd": self.cwd}


class UnknownContext(Exception):
    """A request names a context that does not exist."""


class ContextExists(Exception):
    """A request would create a context that exists."""


class ContextTable:
    """All contexts by name; ``main`` always exists."""

    def __init__(self) -> None:
        self._pristine_builtins = dict(vars(builtins))
        self._contexts = {MAIN_CONTEXT: Context(MAIN_CONTEXT)}

    def get(self, name: str) -> Context:
        """Raises UnknownContext."""
        try:
            return self._contexts[name]
        except KeyError:
            raise UnknownContext(f"no context {name!r}") from None

    def create(self, name: str, cwd: str | None) -> None:
        """Raises ContextExists."""
        if name in self._contexts:
            raise ContextExists(f"context {name!r} exists")
        self._contexts[name] = Context(name, cwd)

    def remove(self, name: str) -> None:
        """Close a context; ``main`` comes back empty. Raises UnknownContext."""
        context = self.get(name)
        del self._contexts[name]
        context.close()
        if name == MAIN_CONTEXT:
            self._contexts[name] = Context(name)

    def reset(self, name: str) -> None:
        """Give a context a new namespace, and the process the builtins user code deleted. Raises UnknownContext."""
        context = self.get(name)
        context.close()
        self._contexts[name] = Context(name, context.cwd)
        for builtin, value in self._pristine_builtins.items():
            vars(builtins).setdefault(builtin, value)

    def adopt_builtin(self, name: str, value: object) -> None:
        """Add a builtin that user code sees, and that a reset brings back."""
        self._pristine_builtins[name] = value
        vars(builtins)[name] = value

    def as_json(self) -> list[dict[str, Any]]:
        """What the ``contexts`` event lists."""
        return [context.as_json() for context in self._contexts.values()]
