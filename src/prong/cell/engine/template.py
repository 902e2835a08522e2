"""A template in use: its spawner, and a pool of cells forked ahead of demand."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from prong.cell.engine.cell import Cell
from prong.cell.engine.descent import Descent
from prong.cell.engine.rehearsal import touched_pages
from prong.cell.engine.spawner import Spawner
from prong.cell.host.spec import Identity
from prong.cell.limits import Limits
from prong.errors import InvalidInput, ProngError, SandboxGone

if TYPE_CHECKING:
    from prong.cell.engine.snapshots import Stored

REFILL_BATCH = 8
REHEARSAL = "__rehearsal__"


class Template:
    """A loaded template. ``fork`` is what it is for. Made by :meth:`Engine.template`; closed with its engine.

    Attributes:
        name: its name. stored: the snapshot behind it. spawner: the process its cells are forked from.
        pool_size: how many parked cells to keep; 0 forks on demand only.
    """

    def __init__(self, name: str, stored: Stored, spawner: Spawner) -> None:
        self.name = name
        self.stored = stored
        self.spawner = spawner
        self.descent = Descent.of(name, stored.manifest)
        self.pool_size = 0
        self._parked: deque[Cell] = deque()
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._filler: threading.Thread | None = None
        self._closed = False
        self.trouble: ProngError | None = None
        spawner.load(stored.memory, stored.state, stored.frames)

    def fork(self, *, limits: Limits | None = None) -> Cell:
        """A new running cell. From the pool if one is parked (and ``limits`` are the template's), else forked now."""
        if limits is None:
            cell = self._take()
            if cell is not None:
                return cell
        return self.fork_many(1, limits=limits)[0]

    def fork_many(self, count: int, *, limits: Limits | None = None) -> list[Cell]:
        """``count`` new running cells, forked now, none from the pool. All of them are ready when this returns."""
        most = self.stored.manifest.limits.get("memory")
        if limits is not None and most is not None and limits.memory > most:
            raise InvalidInput(
                f"template {self.name} has {int(most) >> 20} MiB of memory; a fork can have less, not more",
                hint="create a template with more memory",
                data={"field": "memory", "allowed": most},
            )
        packed = None if limits is None else asdict(limits)
        descent = self.descent if packed is None else replace(self.descent, limits=packed)
        cells: list[Cell] = []
        try:
            for at in range(0, count, 64):
                identities = [Identity.fresh(1) for _ in range(min(64, count - at))]
                sockets = self.spawner.spawn(identities, packed)
                cells += [Cell(s, descent, i) for s, i in zip(sockets, identities, strict=True)]
            for cell in cells:
                cell.wait_ready()
                cell.owe_fork()
                cell.start_soon()
        except ProngError:
            for cell in cells:
                cell.close()
            raise
        return cells

    def rehearsed_pages(self) -> tuple[list[int], list[int]]:
        """Which pages a first run in a fork writes, and which it only reads (virtual page numbers)."""
        identity = Identity.fresh(1)
        (sock,) = self.spawner.spawn([identity])
        with Cell(sock, self.descent, identity).wait_ready() as cell:
            return touched_pages(cell)

    # -- pool -------------------------------------------------------------------------------------------------------------

    def keep_pool(self, size: int) -> None:
        """Keep ``size`` cells parked from now on: forked, sealed, with the fork contract kept and their pages touched."""
        with self._lock:
            self.pool_size = size
            if self._filler is None and size:
                self._filler = threading.Thread(target=self._fill, name=f"prong-pool-{self.name}", daemon=True)
                self._filler.start()
        self._wanted.set()

    @property
    def parked(self) -> int:
        """How many cells are parked now."""
        return len(self._parked)

    def _take(self) -> Cell | None:
        while self._parked:
            try:
                cell = self._parked.popleft()
            except IndexError:
                return None
            self._wanted.set()
            if not cell.closed:
                return cell
        return None

    def _fill(self) -> None:
        while not self._closed:
            self._wanted.wait()
            self._wanted.clear()
            try:
                while not self._closed and len(self._parked) < self.pool_size:
                    self._park(min(REFILL_BATCH, self.pool_size - len(self._parked)))
            except SandboxGone as e:
                self.trouble = e
            except ProngError as e:
                self.trouble = e
                return

    def _park(self, count: int) -> None:
        """Fork ``count`` cells and park them; after a failure none of them stays behind unparked."""
        cells = deque(self.fork_many(count))
        try:
            while cells:
                self._rehearse(cells[0])
                self._parked.append(cells.popleft())
        finally:
            for cell in cells:
                cell.close()

    @staticmethod
    def _rehearse(cell: Cell) -> None:
        """Keep the fork contract and run a line, so that the first real run finds its pages in place.

        The line runs in a context of its own that is removed again: no name, count or output of it remains.
        """
        cell.keep_fork_contract()
        cell.contexts("create", REHEARSAL)
        cell.run("print(1 + 1)", context=REHEARSAL)
        cell.contexts("remove", REHEARSAL)

    def close(self) -> None:
        """End the spawner and every cell forked from it."""
        self._closed = True
        self._wanted.set()
        self.spawner.close()
        if self._filler is not None:
            self._filler.join(10)
        while self._parked:
            self._parked.popleft().close()
