"""Checks of what building images and running machines need; none of them stops a cell. Pure: facts in, verdict out."""

from __future__ import annotations

from prong.doctor.cells import size
from prong.doctor.check import Check, fail, ok, warn
from prong.doctor.facts import Space, SubordinateIds

ENOUGH_DISK = 5 << 30
ENOUGH_IDS = 65_536  # one whole 16-bit id space, what useradd(8) hands out


def check_mmdebstrap(version: str | None) -> Check:
    """mmdebstrap makes Debian roots; None if it is not installed."""
    if version is None:
        return warn("mmdebstrap", "not installed", "to build images: sudo apt-get install mmdebstrap")
    return ok("mmdebstrap", version or "installed")


def check_subordinate_ids(ids: SubordinateIds, newuidmap: bool) -> Check:
    """Building as an ordinary user needs newuidmap and a range of ids to map (subuid(5))."""
    name = "subordinate ids"
    if ids.root:
        return ok(name, "not needed by root")
    if not newuidmap:
        return warn(name, "no newuidmap", "to build images: sudo apt-get install uidmap")
    found = f"{ids.uids} uids and {ids.gids} gids for {ids.user}"
    if min(ids.uids, ids.gids) < ENOUGH_IDS:
        return warn(
            name,
            found,
            f"to build images: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {ids.user}",
        )
    return ok(name, found)


def check_disk(space: Space) -> Check:
    """Room for images, templates and snapshots where prong keeps its data."""
    found = f"{size(space.free)} free in {space.path}"
    if not space.writable:
        return fail("disk", f"{space.path} is not writable", f'sudo chown "$(id -un)" {space.path}')
    if space.free < ENOUGH_DISK:
        return warn("disk", found, f"free some: an image with its template takes up to {size(ENOUGH_DISK)}")
    return ok("disk", found)


def check_qemu(version: str | None) -> Check:
    """QEMU runs machines; None if it is not installed. Cells do without it."""
    if version is None:
        return warn("qemu", "not installed", "only for machines: sudo apt-get install qemu-system-x86 qemu-utils")
    return ok("qemu", version or "installed")
