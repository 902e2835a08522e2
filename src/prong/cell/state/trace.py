"""Where in a graph an object is: the path to it, for messages. Slow, and used only when something is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from prong.cell.state.layout import SCALARS
from prong.cell.state.schema import schema_of


def path_to(root: object, target: object) -> str:
    """How ``target`` is reached from ``root``, as in ``kernel.fds.files[3].peer``; long paths are cut in the middle."""
    came_from: dict[int, tuple[object, str]] = {}
    queue: list[object] = [root]
    for node in queue:
        if node is target:
            break
        for step, child in _children(node):
            if type(child) not in SCALARS and child is not root and id(child) not in came_from:
                came_from[id(child)] = (node, step)
                queue.append(child)
    steps: list[str] = []
    node = target
    while node is not root and id(node) in came_from:
        node, step = came_from[id(node)]
        steps.append(step)
    text = "".join(reversed(steps))
    return _name(root) + (text if len(text) <= 400 else f"{text[:200]}…{text[-200:]}")


def _name(root: object) -> str:
    try:
        return schema_of(type(root)).name
    except TypeError:
        return type(root).__qualname__


def _children(node: Any) -> Iterator[tuple[str, object]]:
    """The values directly in a node, each with the piece of a path that leads to it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield ".keys()", key
            yield f"[{key!r:.60}]", value
    elif isinstance(node, (list, tuple, deque)):
        yield from ((f"[{i}]", value) for i, value in enumerate(node))
    elif isinstance(node, (set, frozenset)):
        yield from (("{…}", value) for value in node)
    else:
        try:
            schema = schema_of(type(node))
        except TypeError:
            return
        names = [name for name in schema.slots if hasattr(node, name)]
        yield from ((f".{name}", getattr(node, name)) for name in names)
        rest = getattr(node, "__dict__", {}) if not schema.is_enum else {}
        yield from ((f".{name}", value) for name, value in rest.items() if name not in schema.skip)
