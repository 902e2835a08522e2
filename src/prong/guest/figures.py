"""matplotlib: figures become PNG, whether shown, left open at the end of a cell, or its last value.

``MPLBACKEND`` names :data:`BACKEND`, a module made on demand over matplotlib's own Agg backend whose ``show`` displays
the open figures. matplotlib is not imported until user code imports it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import io
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Protocol, cast

BACKEND = "prong_matplotlib_backend"


class Figure(Protocol):
    """What is used of ``matplotlib.figure.Figure``."""

    def savefig(self, file: io.BytesIO, *, format: str, bbox_inches: str) -> None:
        """Draw into a file."""


class BackendFinder:
    """A ``sys.meta_path`` entry and loader for the backend module.

    Args:
        show: called by ``pyplot.show()``.
    """

    def __init__(self, show: Callable[..., None]) -> None:
        self._show = show

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The backend's spec, or None for any other module."""
        if name != BACKEND:
            return None
        return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]  # duck-typed loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Let the import system make an ordinary module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill it with the Agg backend's names and our ``show``."""
        agg = importlib.import_module("matplotlib.backends.backend_agg")
        module.__dict__.update({name: value for name, value in vars(agg).items() if not name.startswith("__")})
        module.__dict__["show"] = self._show


def install(show: Callable[..., None]) -> None:
    """Make the backend the default one for this process."""
    sys.meta_path.append(BackendFinder(show))
    os.environ.setdefault("MPLBACKEND", "module://" + BACKEND)


def open_figures() -> list[Figure]:
    """The figures pyplot holds open, oldest first; empty when matplotlib is not in use."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None:
        return []
    return [manager.canvas.figure for manager in helpers.Gcf.get_all_fig_managers()]


def as_figure(value: object) -> Figure | None:
    """The value if it is a matplotlib figure."""
    module = sys.modules.get("matplotlib.figure")
    return cast(Figure, value) if module is not None and isinstance(value, module.Figure) else None


def png_bundle(figure: Figure) -> dict[str, object]:
    """``{mime: form}`` of a figure; raises what drawing raises."""
    image = io.BytesIO()
    figure.savefig(image, format="png", bbox_inches="tight")
    return {"text/plain": repr(figure), "image/png": image.getvalue()}


def close(figure: object) -> None:
    """Take a figure from pyplot's list of open ones, if it is there."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)
