"""What a cell comes from, as far as its snapshots and the people looking at it need to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from prong.store.manifest import SnapshotManifest


@dataclass(frozen=True)
class Descent:
    """Where a cell comes from: a name to show, its image's digest, its limits by name, and the snapshot, if any."""

    name: str
    image: str
    limits: dict[str, int | float | None] = field(default_factory=dict)
    snapshot: str | None = None

    @classmethod
    def of(cls, name: str, manifest: SnapshotManifest) -> Descent:
        """From a snapshot's manifest."""
        return cls(name, manifest.image, dict(manifest.limits), manifest.id)
