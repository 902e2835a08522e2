"""Where prong keeps its files: one data directory, with one sub-directory for each kind of thing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from prong.errors import InvalidInput

HOME_VARIABLE = "PRONG_HOME"


@dataclass(frozen=True, slots=True)
class Paths:
    """The data directory and what is in it. Naming a path creates nothing; :meth:`ensure` does.

    Attributes:
        home: absolute path of the data directory.
    """

    home: Path

    @classmethod
    def resolve(cls, environ: Mapping[str, str] | None = None) -> Paths:
        """The data directory: ``PRONG_HOME`` where set, else the user data directory of the XDG base directory spec.

        Raises:
            InvalidInput: ``PRONG_HOME`` is not an absolute path.
        """
        chosen = (os.environ if environ is None else environ).get(HOME_VARIABLE, "")
        if not chosen:
            return cls(Path(platformdirs.user_data_dir("prong", appauthor=False)))
        home = Path(chosen).expanduser()
        if not home.is_absolute():
            raise InvalidInput(
                f"{HOME_VARIABLE} is {chosen!r}, which is not an absolute path",
                hint=f"set {HOME_VARIABLE} to a path that starts with /",
                data={"field": HOME_VARIABLE},
            )
        return cls(home)

    @property
    def images(self) -> Path:
        """Built and imported images."""
        return self.home / "images"

    @property
    def templates(self) -> Path:
        """Warmed, snapshotted templates."""
        return self.home / "templates"

    @property
    def snapshots(self) -> Path:
        """Saved states of sandboxes."""
        return self.home / "snapshots"

    @property
    def run(self) -> Path:
        """Sockets and locks of running processes."""
        return self.home / "run"

    @property
    def cache(self) -> Path:
        """What can be deleted at any time and is made again when needed."""
        return self.home / "cache"

    def ensure(self) -> Paths:
        """Create whatever of the data directory is missing and return self.

        Raises:
            OSError: a directory cannot be created.
        """
        for directory in (self.home, self.images, self.templates, self.snapshots, self.run, self.cache):
            directory.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o700)
        return self
