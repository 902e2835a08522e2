"""The record beside an image's tree: what it holds, how and when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from prong.errors import Corrupt
from prong.image.spec import ImageSpec


class Package(BaseModel):
    """One installed package.

    Attributes:
        kind: ``deb`` (dpkg's) or ``wheel`` (pip's).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["deb", "wheel"]
    name: str
    version: str


class Manifest(BaseModel):
    """Everything known about an image apart from its names, which live in tags.

    Attributes:
        format: version of this file's layout.
        digest: 64 lower-case hexadecimal digits.
        origin: ``build`` from a spec, or ``import`` from a directory or tar.
        spec: the spec it was built from; None for an import.
        suite: the Debian suite, where there is one.
        env: environment variables a program in this image starts with.
        workdir: directory it starts in.
        packages: what the image's own package databases list, sorted.
        created: when this image first entered the store (UTC).
        size_bytes: sum of the regular files' lengths, hard links counted once.
        file_count: entries in the tree: files, directories and links.
        seconds: how long it took to make.
        builders: version of each program that had a part in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    digest: str
    origin: Literal["build", "import"]
    spec: ImageSpec | None
    suite: str | None
    env: dict[str, str]
    workdir: str
    packages: tuple[Package, ...]
    created: datetime
    size_bytes: int
    file_count: int
    seconds: float
    builders: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Load a manifest file.

        Raises:
            Corrupt: the file is missing or is not a manifest of a format this version reads.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as missing:
            raise Corrupt(f"{path} is missing", hint="remove that image and build it again") from missing
        except ValidationError as broken:
            raise Corrupt(
                f"{path} is not a manifest this version of prong reads: {broken.errors()[0]['msg']}",
                hint="remove that image and build it again",
                data={"path": str(path)},
            ) from broken


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store.

    Attributes:
        digest: 64 lower-case hexadecimal digits.
        names: its tags, sorted.
        root: the top of its tree; treat as read-only.
        manifest: what it holds.
    """

    digest: str
    names: tuple[str, ...]
    root: Path
    manifest: Manifest

    @property
    def title(self) -> str:
        """How to call it in a message: its first name, else its short digest."""
        return self.names[0] if self.names else self.digest[:12]
