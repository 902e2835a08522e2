"""A fork tree: which cell came from which. Kept for the repl and the demo, drawn with rich, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from prong.cli.output import printable

if TYPE_CHECKING:
    from prong.errors import Json


@dataclass
class Node:
    """One line of a fork tree.

    Attributes:
        id: what it is called by (``c3``). kind: what it is (template, cell, snapshot).
        label: a name given by a person, or "". note: what happened in it, in a few words.
        ended: it is no longer running. children: what was made from it, oldest first. parent: None at the root.
    """

    id: str
    kind: str
    label: str = ""
    note: str = ""
    ended: bool = False
    children: list[Node] = field(default_factory=list)
    parent: Node | None = field(default=None, repr=False)

    def add(self, child: Node) -> Node:
        """Hang ``child`` under this node and return it."""
        child.parent = self
        self.children.append(child)
        return child

    def walk(self) -> Iterator[Node]:
        """This node and everything below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_json(self) -> dict[str, Json]:
        """``{id, kind, label, note, ended, children}``, nested."""
        children: list[Json] = [child.to_json() for child in self.children]
        facts: dict[str, Json] = {"id": self.id, "kind": self.kind, "label": self.label, "note": self.note}
        return {**facts, "ended": self.ended, "children": children}


def draw(root: Node, current: Node | None = None) -> Tree:
    """The tree for a console; ``current`` is marked."""
    tree = Tree(_line(root, current), guide_style="dim")
    todo = [(root, tree)]
    while todo:
        node, branch = todo.pop()
        todo += [(child, branch.add(_line(child, current))) for child in node.children]
    return tree


_STYLES = {"template": "bold magenta", "cell": "bold cyan", "snapshot": "yellow"}


def _line(node: Node, current: Node | None) -> Text:
    name = f"{node.kind} {node.id}" if node.kind != "cell" else node.id
    line = Text(printable(name), style="dim" if node.ended else _STYLES.get(node.kind, ""))
    if node.label:
        line.append(f" {printable(node.label)}", style="bold")
    if node.note:
        line.append(f"  {printable(node.note)}", style="dim")
    if node.ended:
        line.append("  (ended)", style="dim red")
    if node is current:
        line.append("  ← you are here", style="green")
    return line
