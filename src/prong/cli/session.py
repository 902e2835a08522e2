"""The state of a repl: the cells it holds as a fork tree, the one it is in, and the snapshots it took. No terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cli.treeview import Node
from prong.errors import Conflict, NotFound

if TYPE_CHECKING:
    from prong.cell.engine import Cell, Engine


class Session:
    """A tree of live cells with a place in it.

    Args:
        engine: for snapshots. cell: the first cell. origin: what it was forked from, for the root of the tree.

    Attributes:
        root: the tree; its cells' node ids are the cells' ids. here: the node of the current cell.
    """

    def __init__(self, engine: Engine, cell: Cell, origin: Node) -> None:
        self._engine = engine
        self._cells: dict[str, Cell] = {cell.id: cell}
        self.root = origin
        self.here = origin.add(Node(cell.id, "cell"))

    @property
    def cell(self) -> Cell:
        """The current cell."""
        return self._cells[self.here.id]

    def fork(self, label: str = "") -> Cell:
        """Fork the current cell live and go to the fork. Raises Conflict when its program has ended, SandboxGone."""
        fork = self.cell.fork()[0]
        self._cells[fork.id] = fork
        self.here = self.here.add(Node(fork.id, "cell", label))
        return fork

    def back(self) -> Cell:
        """Go to the cell this one was forked from. Raises Conflict at the first one."""
        above = self.here.parent
        while above is not None and above.kind != "cell":
            above = above.parent
        if above is None:
            raise Conflict(f"{self.here.id} is the first cell; there is nothing to go back to")
        self.here = above
        return self.cell

    def switch(self, name: str) -> Cell:
        """Go to the cell with this id or label. Raises NotFound."""
        for node in self.root.walk():
            if node.kind == "cell" and name and name in (node.id, node.label):
                self.here = node
                return self.cell
        raise NotFound(f"there is no cell {name!r:.80} here", hint=":tree shows those there are", data={"id": name[:80]})

    def snapshot(self, note: str = "") -> str:
        """Save the current cell on disk while it goes on; returns the snapshot's id."""
        snapshot_id = self._engine.snapshot(self.cell, note).id
        self.here.add(Node(snapshot_id, "snapshot", note))
        return snapshot_id

    def rollback(self, snapshot_id: str) -> str:
        """Put the current cell back to a snapshot (its id or the beginning of it); returns the full id."""
        snapshot = self._engine.snapshots.get(snapshot_id)
        self._cells[self.here.id] = self._engine.rollback(self.cell, snapshot)
        self.here.ended = False
        self.here.note = f"rolled back to {snapshot.id[:8]}"
        return snapshot.id

    def mark_ended(self) -> None:
        """Bring the tree up to date with cells whose program has ended."""
        for node in self.root.walk():
            cell = self._cells.get(node.id)
            if cell is not None:
                node.ended = cell.closed or cell.ended is not None

    def close(self) -> None:
        """End every cell."""
        for cell in self._cells.values():
            cell.close()
