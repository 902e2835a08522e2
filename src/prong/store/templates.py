"""The templates of this host: named, warmed snapshots that sandboxes are forked from.

Layout below the directory: ``<name>/template.json`` and ``<name>/snapshot/`` (a snapshot directory); ``.locks/<name>``
for flock(2): whoever builds or removes a template holds it alone, whoever runs sandboxes from it shares it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prong.errors import Conflict, Corrupt, InvalidInput, NotFound
from prong.store.atomic import MAX_JSON, lock, new_dir, read_bytes, remove_dir, sweep, write_file
from prong.store.manifest import Count, Digest, SnapshotManifest

RECORD, SNAPSHOT = "template.json", "snapshot"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def check_name(name: str) -> str:
    """``name`` if it can name a template; InvalidInput otherwise."""
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r:.80} cannot name a template",
            hint="use up to 63 lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit",
            data={"field": "name"},
        )
    return name


class TemplateManifest(BaseModel):
    """``template.json``: what a template was made of.

    Attributes:
        format: version of this file. name: the template's. kind: which engine runs it.
        image: digest of its image. warm: SHA-256 of the warm-up file, None if there was none.
        memory: bytes of guest memory a fork may use. created: UTC.
        prong: the version that made it. seconds: how long that took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    format: Literal[1] = 1
    name: str
    kind: Literal["cell"] = "cell"
    image: Digest
    warm: Digest | None = None
    memory: Count
    created: Annotated[datetime, Field(strict=False)]
    prong: str
    seconds: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> TemplateManifest:
        """The manifest in a template's directory; NotFound if there is none, Corrupt if it is not one."""
        path = folder / RECORD
        try:
            return cls.model_validate_json(read_bytes(path, limit=MAX_JSON))
        except ValidationError as broken:
            first = broken.errors()[0]
            raise Corrupt(
                f"{path} is not a template manifest this version of prong reads: "
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:400],
                hint="remove the template and create it again",
                data={"path": str(path)},
            ) from None


@dataclass(frozen=True, slots=True)
class Template:
    """A template in the store: its manifest, and where its snapshot is."""

    path: Path
    manifest: TemplateManifest

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    @property
    def snapshot(self) -> Path:
        """The snapshot directory to fork from."""
        return self.path / SNAPSHOT


@dataclass(frozen=True, slots=True)
class TemplateDraft:
    """A template being made, in the temporary directory ``path``."""

    name: str
    path: Path

    @property
    def snapshot(self) -> Path:
        """The directory, empty at first, for the snapshot's files."""
        return self.path / SNAPSHOT

    def finish(self, manifest: TemplateManifest) -> None:
        """Write the template's manifest, last of all."""
        write_file(self.path / RECORD, manifest.model_dump_json(indent=2).encode() + b"\n")


class TemplateStore:
    """Templates below ``root``, which is made when first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def building(self, name: str, *, replace: bool = False) -> Iterator[TemplateDraft]:
        """Make a template: it becomes visible when the block ends well, and nothing remains of it otherwise.

        Write the snapshot into ``draft.snapshot`` and call ``draft.finish`` with the manifest. Waits while another
        process builds the same name; if that one made it, this one gets Conflict and can use :meth:`get`.

        Raises:
            Conflict: the template exists and ``replace`` is false; or it is to be replaced and is in use.
            InvalidInput: ``name`` cannot name a template.
        """
        with self._locked(name, wait=not replace):
            final = self.root / name
            if final.exists() and not replace:
                raise Conflict(f"template {name} exists already", data={"name": name})
            with new_dir(final, durable=True, replace=replace) as temp:
                draft = TemplateDraft(name, temp)
                draft.snapshot.mkdir(mode=0o700)
                yield draft
                if TemplateManifest.read(temp).name != name:
                    raise Corrupt(f"the manifest of template {name} has another name", data={"name": name})
                SnapshotManifest.read(draft.snapshot)

    def get(self, name: str) -> Template:
        """One template; NotFound if there is none, Corrupt if its manifest is damaged."""
        path = self.root / check_name(name)
        if not path.is_dir():
            raise NotFound(
                f"there is no template {name}",
                hint="prong template ls shows those there are; prong template create makes one",
                data={"name": name},
            )
        manifest = TemplateManifest.read(path)
        if manifest.name != name:
            raise Corrupt(f"{path} holds the manifest of template {manifest.name!r:.80}", data={"name": name})
        return Template(path, manifest)

    def ls(self) -> list[Template]:
        """All sound templates by name; for the others see :meth:`damaged`."""
        return self._scan()[0]

    def damaged(self) -> dict[str, str]:
        """The templates whose manifest cannot be read: name → why. They can be removed, or created again."""
        return self._scan()[1]

    def templates_using(self, image: str) -> list[str]:
        """Names of the templates made from the image with this digest."""
        return [template.name for template in self.ls() if template.manifest.image == image]

    @contextmanager
    def using(self, name: str) -> Iterator[Template]:
        """Hold the template so that nobody removes or replaces it meanwhile; waits while it is being built."""
        with self._locked(name, shared=True):
            yield self.get(name)

    def rm(self, name: str) -> None:
        """Remove a template, sound or damaged.

        Raises:
            NotFound: there is none.
            Conflict: it is being built, or sandboxes are run from it.
        """
        check_name(name)
        if not (self.root / name).exists():
            raise NotFound(f"there is no template {name}", data={"name": name})
        with self._locked(name, wait=False):
            remove_dir(self.root / name)

    def sweep(self) -> list[str]:
        """Remove what builders that died have left; returns the names."""
        return sweep(self.root)

    @contextmanager
    def _locked(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with lock(locks / check_name(name), shared=shared, wait=wait):
            yield

    def _scan(self) -> tuple[list[Template], dict[str, str]]:
        sound: list[Template] = []
        damaged: dict[str, str] = {}
        names = sorted(os.listdir(self.root)) if self.root.is_dir() else []
        for name in names:
            if not _NAME.match(name):
                continue
            try:
                sound.append(self.get(name))
            except (Corrupt, NotFound) as error:
                # One that was removed meanwhile is neither.
                if (self.root / name).exists():
                    damaged[name] = str(error)
        return sound, damaged
