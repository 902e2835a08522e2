"""The snapshots of this host: made, found, listed as a tree, removed.

Layout below the directory: ``<id>/`` with ``manifest.json``, ``state.bin`` and ``memory``; each appears by one rename.
Every snapshot is complete in itself: its parent is where it came from, not something it needs to be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prong.errors import Conflict, Corrupt, NotFound
from prong.store.atomic import new_dir, remove_dir, sweep
from prong.store.manifest import SnapshotManifest, check_id, new_id


def nobody(snapshot_id: str) -> tuple[str, ...]:
    """An ``in_use`` hook for stores whose snapshots no sandbox refers to."""
    del snapshot_id
    return ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot in the store: where its files are, and what its manifest says."""

    path: Path
    manifest: SnapshotManifest

    @property
    def id(self) -> str:
        """Its id."""
        return self.manifest.id


@dataclass(frozen=True, slots=True)
class Draft:
    """A snapshot being made: write its files into ``path``, the manifest (with this ``id``) last."""

    id: str
    path: Path


class SnapshotStore:
    """Snapshots below ``root``, which is made when first needed.

    Args:
        root: the directory.
        in_use: tells which sandboxes need the snapshot with this id, by name, so that it is not removed under them.
    """

    def __init__(self, root: Path, *, in_use: Callable[[str], Sequence[str]] = nobody) -> None:
        self.root = root
        self._in_use = in_use

    @contextmanager
    def draft(self, snapshot_id: str = "", *, replace_same: bool = False, durable: bool = True) -> Iterator[Draft]:
        """Make a snapshot: it becomes visible when the block ends well, and nothing remains of it otherwise.

        Args:
            snapshot_id: its id; a new one by default.
            replace_same: a snapshot with this id and an equal manifest may be here already; it is kept.
            durable: the result survives a power cut.

        Raises:
            Conflict: a snapshot with this id is here.
            Corrupt: the block left no valid manifest with this id.
        """
        snapshot_id = check_id(snapshot_id or new_id())
        final = self.root / snapshot_id
        if final.exists() and not replace_same:
            raise Conflict(f"snapshot {snapshot_id} exists already", data={"id": snapshot_id})
        same = False
        try:
            with new_dir(final, durable=durable) as temp:
                yield Draft(snapshot_id, temp)
                manifest = SnapshotManifest.read(temp)
                if manifest.id != snapshot_id:
                    raise Corrupt(f"the manifest says {manifest.id}, not {snapshot_id}", data={"part": "manifest"})
                same = replace_same and final.exists() and SnapshotManifest.read(final) == manifest
        except Conflict:
            if not same:
                raise

    def get(self, id_or_prefix: str) -> Snapshot:
        """One snapshot by its id or the beginning of it (at least 4 characters).

        Raises:
            NotFound: there is none. Conflict: several begin so. Corrupt: its manifest is damaged.
        """
        found = [name for name in self._names() if name.startswith(id_or_prefix)] if len(id_or_prefix) >= 4 else []
        if not found:
            raise NotFound(f"there is no snapshot {id_or_prefix!r:.80}", data={"id": id_or_prefix[:80]})
        if len(found) > 1:
            raise Conflict(f"{id_or_prefix!r} may be any of {len(found)} snapshots", data={"ids": list(found[:20])})
        return self._load(found[0])

    def ls(self) -> list[Snapshot]:
        """All sound snapshots, oldest first; for the others see :meth:`damaged`."""
        return sorted(self._scan()[0], key=lambda s: (s.manifest.created, s.id))

    def damaged(self) -> dict[str, str]:
        """The snapshots whose manifest cannot be read: id → why. They can be removed like any other."""
        return self._scan()[1]

    def tree(self) -> list[tuple[int, Snapshot]]:
        """All snapshots with their depth, each followed by those made from it, oldest first.

        One whose parent is gone is a root.
        """
        below: dict[str | None, list[Snapshot]] = {}
        everything = self.ls()
        ids = {s.id for s in everything}
        for snapshot in everything:
            parent = snapshot.manifest.parent
            below.setdefault(parent if parent in ids and parent != snapshot.id else None, []).append(snapshot)
        rows: list[tuple[int, Snapshot]] = []
        seen: set[str] = set()
        # Imported manifests may name each other as parents; such a ring is shown from its oldest member.
        for root in (*below.get(None, []), *everything):
            todo = [(0, root)]
            while todo:
                depth, snapshot = todo.pop()
                if snapshot.id not in seen:
                    seen.add(snapshot.id)
                    rows.append((depth, snapshot))
                    todo += [(depth + 1, child) for child in reversed(below.get(snapshot.id, []))]
        return rows

    def lineage(self, snapshot_id: str) -> list[str]:
        """The ids from this snapshot up to the root of its tree, as far as they are here; itself first."""
        ids = [self.get(snapshot_id).id]
        while (parent := self._load(ids[-1]).manifest.parent) and parent not in ids and (self.root / parent).exists():
            ids.append(parent)
        return ids

    def children(self, snapshot_id: str) -> list[str]:
        """Ids of the snapshots made from sandboxes of this one, oldest first."""
        return [s.id for s in self.ls() if s.manifest.parent == snapshot_id]

    def rm(self, id_or_prefix: str, *, force: bool = False) -> str:
        """Remove a snapshot and return its id.

        Raises:
            Conflict: snapshots were made from it or sandboxes need it, and ``force`` is false; ``data`` lists them.
            NotFound: there is none.
        """
        snapshot_id = self._resolve(id_or_prefix)
        if not force:
            children, users = self.children(snapshot_id), list(self._in_use(snapshot_id))
            if children or users:
                raise Conflict(
                    f"snapshot {snapshot_id} is needed by {len(children)} snapshots and {len(users)} sandboxes",
                    hint="remove those first, or force it: they stay usable, but cannot be rolled back to it",
                    data={"children": list(children), "sandboxes": list(users)},
                )
        remove_dir(self.root / snapshot_id)
        return snapshot_id

    def sweep(self) -> list[str]:
        """Remove what makers that died have left; returns the names."""
        return sweep(self.root)

    def _resolve(self, id_or_prefix: str) -> str:
        """As :meth:`get`, but also for a snapshot whose manifest is damaged, so that it can be removed."""
        if id_or_prefix in self._names():
            return id_or_prefix
        return self.get(id_or_prefix).id

    def _names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(name for name in os.listdir(self.root) if not name.startswith("."))

    def _scan(self) -> tuple[list[Snapshot], dict[str, str]]:
        sound: list[Snapshot] = []
        damaged: dict[str, str] = {}
        for name in self._names():
            try:
                sound.append(self._load(name))
            except (Corrupt, NotFound) as error:
                # One that was removed meanwhile is neither.
                if (self.root / name).exists():
                    damaged[name] = str(error)
        return sound, damaged

    def _load(self, snapshot_id: str) -> Snapshot:
        path = self.root / snapshot_id
        manifest = SnapshotManifest.read(path)
        if manifest.id != snapshot_id:
            raise Corrupt(f"{path} holds snapshot {manifest.id}", data={"part": "manifest"})
        return Snapshot(path, manifest)
