"""What user code sees of us: ``import prong``, and the builtin ``display``."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from .forking import Callback, ForkState


def make_prong_module(forks: ForkState, display: Callable[..., None]) -> types.ModuleType:
    """The module to put in ``sys.modules["prong"]``; it shares nothing with the package of that name outside."""
    module = types.ModuleType("prong", "The sandbox this program runs in.")

    def on_fork(callback: Callback) -> Callback:
        """Call ``callback()`` in every fork of this sandbox before other code goes on; usable as a decorator.

        If it raises, the fork fails. It runs in the main thread, for a live fork between two steps of running code,
        so it must not wait for a lock that code may hold.
        """
        return forks.subscribe(callback)

    def generation() -> str:
        """An id that differs in every fork; the text of /run/prong/generation."""
        return forks.current_generation()

    def info() -> dict[str, Any]:
        """Facts about this sandbox: ``generation``, and what the host chose to share at the fork."""
        return {**forks.info, "generation": forks.current_generation()}

    for function in (on_fork, generation, info):
        function.__module__ = "prong"
        setattr(module, function.__name__, function)
    module.display = display  # type: ignore[attr-defined]
    module.__all__ = ["display", "generation", "info", "on_fork"]  # type: ignore[attr-defined]
    return module
