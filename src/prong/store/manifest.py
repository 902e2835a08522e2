"""``manifest.json`` of a snapshot: what it is, what it needs, and the checksums of its other files."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prong.errors import Corrupt, HostUnfit, InvalidInput
from prong.store.atomic import parse_json, read_bytes, write_file

FORMAT: Final = 1
"""The version of a snapshot directory's layout that this prong writes, and the only one it reads."""

MANIFEST, STATE, MEMORY = "manifest.json", "state.bin", "memory"
"""The files of a snapshot directory."""

PAGE: Final = 4096
CHUNK: Final = 16777216
"""Bytes of guest memory under one checksum."""
MAX_MANIFEST = 4 << 20
"""Largest manifest read, in bytes; 128 GiB of memory need a seventh of it."""

_ID = re.compile(r"[a-z2-7]{26}\Z")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SnapshotId = Annotated[str, Field(pattern=r"^[a-z2-7]{26}$")]
Count = Annotated[int, Field(ge=0, le=1 << 50)]


def new_id() -> str:
    """A fresh id: 128 random bits as 26 lower-case letters and digits (RFC 4648 base 32)."""
    return base64.b32encode(os.urandom(16)).decode().rstrip("=").lower()


def check_id(text: str) -> str:
    """``text`` if it has the form of an id; InvalidInput otherwise."""
    if not _ID.match(text):
        raise InvalidInput(f"{text!r:.80} is not a snapshot id", data={"field": "id"})
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cpu(_Strict):
    """A processor as programs see it.

    Attributes:
        vendor, model: as in ``/proc/cpuinfo``. features: its flags, sorted.
    """

    vendor: Annotated[str, Field(max_length=64)]
    model: Annotated[str, Field(max_length=256)]
    features: tuple[Annotated[str, Field(max_length=64)], ...]

    @classmethod
    def of(cls, vendor: str, model: str, features: Iterable[str]) -> Self:
        """Build one from flags in any order."""
        return cls(vendor=vendor, model=model, features=tuple(sorted(set(features))))

    def require_on(self, host: Cpu) -> None:
        """Raise HostUnfit unless a program that was started on this processor can go on on ``host``.

        The saved program has chosen its code paths by the features it found, and the layout of its saved vector
        registers by the vendor (Intel SDM 13.4, AMD APM 2 11.5), so both must be there again. The model may differ.
        """
        if self.vendor != host.vendor:
            raise HostUnfit(
                f"the snapshot was made on a {self.vendor} processor and this host has one of {host.vendor}",
                hint="use it on a host with a processor of the same vendor, or make it again here",
                data={"made_on": self.model, "here": host.model},
            )
        if missing := sorted(set(self.features).difference(host.features)):
            raise HostUnfit(
                f"this host's processor lacks {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}, "
                "which the snapshot's program may use",
                hint=f"use it on a host like {self.model}, or make it again here",
                data={"missing": list(missing), "made_on": self.model, "here": host.model},
            )


class StatePart(_Strict):
    """``state.bin``: its length in bytes and its SHA-256."""

    size: Count
    sha256: Digest


class MemoryPart(_Strict):
    """``memory``: a sparse file of ``size`` bytes, ``pages`` of them not all zero.

    ``sha256`` has one entry for each chunk of ``chunk`` bytes, None where it is all zeros; see
    ``prong.cell.state.directory`` for what is hashed.
    """

    size: Count
    page: Literal[4096] = PAGE
    pages: Count
    chunk: Literal[16777216] = CHUNK
    sha256: tuple[Digest | None, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.size % PAGE or self.pages * PAGE > self.size or len(self.sha256) != -(-self.size // CHUNK):
            raise ValueError("its sizes do not fit together")
        return self


class SnapshotManifest(_Strict):
    """Everything known of a snapshot.

    Attributes:
        format: version of the directory's layout. engine: which engine can load it.
        id: its own. parent: of the snapshot its sandbox came from, None at the root of a tree.
        created: UTC. prong: the version that made it.
        cpu: where it was made. image: digest of the image it needs. runtime: digest of the runtime inside, or "".
        state, memory: the other two files. limits: of the cell, by name. note: free text.
    """

    format: Literal[1] = FORMAT
    engine: Literal["cell"] = "cell"
    id: SnapshotId
    parent: SnapshotId | None = None
    created: Annotated[datetime, Field(strict=False)]
    prong: Annotated[str, Field(max_length=64)]
    cpu: Cpu
    image: Digest
    runtime: Annotated[str, Field(max_length=128)] = ""
    state: StatePart
    memory: MemoryPart
    limits: dict[Annotated[str, Field(max_length=64)], int | float | None] = {}
    note: Annotated[str, Field(max_length=2000)] = ""

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """A manifest from bytes that may come from anywhere.

        Raises:
            Corrupt: not a manifest, or of a format this version does not read; the message says which.
        """
        raw = parse_json(data, where, limit=MAX_MANIFEST)
        if raw.get("format") != FORMAT:
            raise Corrupt(
                f"{where} has snapshot format {raw.get('format')!r:.40}; this version of prong reads format {FORMAT}",
                hint=f"it was made by prong {raw.get('prong')!r:.40}; use that version",
                data={"part": "manifest"},
            )
        try:
            return cls.model_validate_json(data)
        except ValidationError as broken:
            first = broken.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise Corrupt(
                f"{where} is not a valid manifest: {place}: {first['msg']}"[:400], data={"part": "manifest"}
            ) from None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest in a snapshot directory; NotFound if there is none, else as :meth:`parse`."""
        path = folder / MANIFEST
        return cls.parse(read_bytes(path, limit=MAX_MANIFEST), str(path))

    def dump(self) -> bytes:
        """As written to disk."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    def write(self, folder: Path, *, durable: bool = True) -> None:
        """Put the manifest into a snapshot directory, in one step."""
        write_file(folder / MANIFEST, self.dump(), durable=durable)


def now() -> datetime:
    """The present moment, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
