"""Forgetting clean nodes, so that a program that looks at every file of a big image does not fill the host's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.fs.dirs import OverlayDir

if TYPE_CHECKING:
    from prong.cell.fs.nodes import Node
    from prong.cell.fs.volume import Volume

MAX_CLEAN = 8192
"""Clean nodes a volume keeps before it forgets those that nobody holds."""


def prune(root: OverlayDir) -> int:
    """Forget every clean node below ``root`` that nothing holds; returns how many. Call only between path walks."""
    order = [root]
    for directory in order:
        order.extend(n for n in directory.children.values() if isinstance(n, OverlayDir) and n.volume is root.volume)
    gone = 0
    for directory in reversed(order):
        names = [name for name, node in directory.children.items() if node is not None and _idle(root.volume, node)]
        names = [name for name in names if name not in directory.own_names]
        for name in names:
            node = directory.children.pop(name)
            if node is not None and node.nlink > 1:
                root.volume.hard_links.pop(node.ino, None)
        gone += len(names)
    root.volume.clean = 0
    return gone


def _idle(volume: Volume, node: Node) -> bool:
    if node.dirty or node.opens or node.volume is not volume:
        return False
    return not isinstance(node, OverlayDir) or not node.children
