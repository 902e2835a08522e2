"""The file-system state of one cell: the tree, where the program stands in it, and the quota."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.fs.content import Quota
from prong.cell.fs.dirs import Directory, OverlayDir
from prong.cell.fs.prune import MAX_CLEAN, prune
from prong.cell.fs.volume import Volume

if TYPE_CHECKING:
    from prong.cell.fs.image import ImageSource
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel

OVERLAY_MAGIC, TMPFS_MAGIC, PROC_MAGIC, SYSFS_MAGIC = 0x794C7630, 0x01021994, 0x9FA0, 0x62656572
FIRST_INO = 1 << 40
"""Inode numbers of new files start here, above those of any image."""
MAX_LISTINGS = 32 << 20
"""Bytes of directory listings and of /proc texts that open files may hold."""


@saved("fs.state")
class FsState:
    """What system calls know of files. ``root`` and ``cwd`` are directories; ``umask`` as in umask(2).

    ``base`` is the overlay's root whatever chroot(2) did to ``root``. ``kernel`` is set by :meth:`attach`.
    """

    def __init__(self, image: ImageSource, base: OverlayDir, quota: Quota) -> None:
        self.image = image
        self.quota = quota
        self.base = base
        self.root: Directory = base
        self.cwd: Directory = base
        base.opens += 1
        self.umask = 0o022
        self.kernel: Kernel | None = None
        self.anon = Volume("anon", 14, TMPFS_MAGIC, quota, first_ino=1000)
        """Where memory files without a name live."""
        self.listing_bytes = 0
        self.inotify_instances = 0
        self.inotify_watches = 0
        self.moves = 0
        """Cookie that joins the two events of a rename (inotify(7))."""

    @classmethod
    def create(cls, image: ImageSource, *, overlay_limit: int) -> FsState:
        """A fresh tree over ``image`` with /dev, /proc, /sys, /tmp and /run in place; ``overlay_limit`` in bytes."""
        from prong.cell.fs.mounts import mount_all  # the trees of /proc and /dev are needed only here

        quota = Quota(overlay_limit)
        volume = Volume("overlay", 31, OVERLAY_MAGIC, quota, image=image, first_ino=FIRST_INO)
        info = image.lstat(b"")
        if info is None:
            raise SysErr(errno.ENOENT)
        base = OverlayDir(volume, info.st_ino, 0o755, info.st_mtime_ns, None, b"", b"")
        base.nlink = info.st_nlink
        fs = cls(image, base, quota)
        mount_all(fs)
        return fs

    def attach(self, kernel: Kernel) -> None:
        """Tell the tree whose it is, for /proc and the cell's time. Call once, before the program runs."""
        self.kernel = kernel

    def now(self) -> int:
        """CLOCK_REALTIME in ns, for the times of files."""
        return self.kernel.clock.realtime() if self.kernel is not None else time.time_ns()

    def tidy(self) -> None:
        """Forget clean nodes when there are too many. Call where no path walk is under way."""
        if self.base.volume.clean > MAX_CLEAN:
            prune(self.base)

    def set_cwd(self, node: Node) -> None:
        """Make a directory the working directory; SysErr(ENOTDIR)."""
        if not isinstance(node, Directory):
            raise SysErr(errno.ENOTDIR)
        node.opens += 1
        self.cwd.drop_open()
        self.cwd = node

    def set_root(self, node: Node) -> None:
        """chroot(2); SysErr(ENOTDIR)."""
        if not isinstance(node, Directory):
            raise SysErr(errno.ENOTDIR)
        node.opens += 1
        self.root = node

    def hold_listing(self, size: int) -> None:
        """Count ``size`` more (or fewer) bytes of listings and /proc texts; SysErr(ENOMEM) over the limit."""
        if size > 0 and self.listing_bytes + size > MAX_LISTINGS:
            raise SysErr(errno.ENOMEM)
        self.listing_bytes += size
