"""What a build tells whoever is watching: frozen events, handed to a callable."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Stage(enum.StrEnum):
    """The steps of a build or import, in the order they happen; a step with nothing to do is left out."""

    WAIT = "wait"
    """Another process builds the same spec; waiting for it."""
    RESOLVE = "resolve"
    """Reading package lists."""
    DOWNLOAD = "download"
    """Fetching Debian packages."""
    INSTALL = "install"
    """Unpacking and configuring Debian packages."""
    UNPACK = "unpack"
    """Copying the finished root into the store."""
    PIP = "pip"
    """Fetching and installing wheels."""
    FILES = "files"
    """Writing the spec's own files."""
    RUN = "run"
    """Running the spec's commands inside the root."""
    SEAL = "seal"
    """Making the tree readable and reproducible, and computing its digest."""
    DONE = "done"
    """The image is in the store."""


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """One sign of life from a build.

    Attributes:
        stage: the step under way.
        message: one line for people: a line of a tool's output, or what is being done.
        fraction: how much of this *stage* is done, 0.0 to 1.0; None where that is unknown.
    """

    stage: Stage
    message: str
    fraction: float | None = None


Progress = Callable[[BuildEvent], None]
"""Receives each event, in order, on the building thread; an exception it raises ends the build."""


def silent(event: BuildEvent) -> None:
    """A :data:`Progress` for callers that do not watch."""
    del event
