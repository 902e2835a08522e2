"""Names the shell offers on Tab: templates, images, snapshots of this host."""

from __future__ import annotations

from collections.abc import Iterable

from prong.errors import ProngError


def _offered(names: Iterable[str], beginning: str) -> list[str]:
    return sorted(name for name in names if name.startswith(beginning))


def template_names(incomplete: str) -> list[str]:
    """Templates there are; none when the data directory cannot be read: Tab is no place for errors."""
    from prong.store.paths import Paths
    from prong.store.templates import TemplateStore

    try:
        return _offered((t.name for t in TemplateStore(Paths.resolve().templates).ls()), incomplete)
    except (ProngError, OSError):
        return []


def snapshot_ids(incomplete: str) -> list[str]:
    """Snapshots there are, by id."""
    from prong.store.paths import Paths
    from prong.store.snapshots import SnapshotStore

    try:
        return _offered((s.id for s in SnapshotStore(Paths.resolve().snapshots).ls()), incomplete)
    except (ProngError, OSError):
        return []


def image_names(incomplete: str) -> list[str]:
    """Images there are, by name."""
    from prong.image import ImageStore
    from prong.store.paths import Paths

    try:
        return _offered((name for image in ImageStore(Paths.resolve()).list() for name in image.names), incomplete)
    except (ProngError, OSError):
        return []
