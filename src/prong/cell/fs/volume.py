"""Volumes: a file system instance. What all have in common; the overlay adds the image and changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.fs.content import Quota

if TYPE_CHECKING:
    from prong.cell.fs.image import ImageSource
    from prong.cell.fs.nodes import Node
    from prong.cell.fs.state import FsState


@saved("fs.volume")
class Volume:
    """A mounted file system. ``dev`` is st_dev, ``kind`` its name in /proc/mounts, ``magic`` what statfs(2) tells.

    ``readonly`` volumes answer every change with EROFS (or EPERM for /proc). ``first_ino``: where new inode numbers start.
    """

    def __init__(
        self, kind: str, dev: int, magic: int, quota: Quota, *, image: ImageSource | None = None, first_ino: int = 1
    ) -> None:
        self.kind = kind
        self.dev = dev
        self.magic = magic
        self.quota = quota
        self.image = image
        self.readonly = False
        self.next_ino = first_ino
        self.fs: FsState | None = None
        """For volumes whose files tell of the cell itself (/proc)."""
        self.clean = 0
        """Nodes made from the image so far, to know when to forget some (prune.py)."""
        self.hard_links: dict[int, Node] = {}
        """Image files with several names: host inode number → their one node."""

    def ino(self) -> int:
        """A fresh inode number."""
        self.next_ino += 1
        return self.next_ino
