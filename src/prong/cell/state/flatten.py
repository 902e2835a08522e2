"""From an object graph to the flat lists of ``layout.py``: find every node, order the immutable ones, write columns."""

from __future__ import annotations

import enum
import operator
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Any

from prong.cell.state.layout import FROZENSETS, MAX_NODES, MAX_RUNS, OBJECTS, SCALARS, TUPLES
from prong.cell.state.schema import Schema, schema_of
from prong.errors import LimitExceeded

Rows = list[tuple[object, ...]]
_INVERT = bytes.maketrans(b"\0\1", b"\1\0")


@dataclass(slots=True)
class Group:
    """Instances of one class that have the same attributes, and their values, one row for each instance."""

    schema: Schema
    names: tuple[str, ...]
    nodes: list[object] = field(default_factory=list)
    rows: Rows = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """Immutable nodes of one kind that refer only to nodes before them."""

    kind: int
    group: Group | None = None
    nodes: list[Any] = field(default_factory=list)
    rows: Rows = field(default_factory=list)


class Flattener:
    """Flattens the graph under ``root``; see :meth:`flatten`."""

    def __init__(self, root: object) -> None:
        self._queue: list[Any] = [root]
        self._origin: list[int] = [-1]
        self._position: dict[int, int] = {id(root): 0}
        self._enums: dict[type, list[Any]] = {}
        self._plain: dict[type, list[Any]] = {kind: [] for kind in (bytearray, list, deque, set, dict)}
        self._immutable: dict[int, tuple[object, ...]] = {}
        self._groups: dict[tuple[type, tuple[str, ...]], Group] = {}
        self._shape: dict[int, Group] = {}
        self._getters: dict[type, Callable[[Any], tuple[object, ...]]] = {}
        self._index: dict[int, int] = {}

    def flatten(self) -> tuple[list[Any], list[bytearray]]:
        """The graph (see ``layout.py``) and the bytearrays of the bulk part, in order.

        Raises:
            TypeError: something in the graph cannot be saved; the message has the attribute path to it.
            LimitExceeded: more than MAX_NODES nodes.
        """
        self._discover()
        runs = self._runs()
        plain = self._plain
        groups = [group for group in self._groups.values() if group.schema.hashed is None]
        parts: list[list[Any]] = [*self._enums.values(), *plain.values(), *(g.nodes for g in groups)]
        parts += [run.nodes for run in runs]
        # The ids stay valid: every node is alive in the queue.
        self._index = {key: number for number, key in enumerate(map(id, chain.from_iterable(parts)))}
        graph = [
            [[schema_of(cls).name, [m.value for m in members]] for cls, members in self._enums.items()],
            [len(array) for array in plain[bytearray]],
            self._sequences(plain[list]),
            [_lengths(plain[deque]), [d.maxlen for d in plain[deque]], self._items(plain[deque])],
            self._sequences(plain[set]),
            [_lengths(plain[dict]), self._items(plain[dict]), self._items([d.values() for d in plain[dict]])],
            [self._objects(group, group.rows) for group in groups],
            [self._run(run) for run in runs],
            self._index[id(self._queue[0])],
        ]
        return graph, plain[bytearray]

    def _discover(self) -> None:
        """Visit every node once, breadth first, and sort it by kind; no recursion, however deep the graph."""
        queue, origin, position, scalars = self._queue, self._origin, self._position, SCALARS
        for here, node in enumerate(queue):
            children = self._classify(here, node)
            if scalars.issuperset(map(type, children)):
                continue
            for child in children:
                if type(child) not in scalars and (key := id(child)) not in position:
                    position[key] = len(queue)
                    queue.append(child)
                    origin.append(here)
            if len(queue) > MAX_NODES:
                raise LimitExceeded(
                    f"the cell's state has more than {MAX_NODES} objects and cannot be saved",
                    data={"limit": "state_nodes", "allowed": MAX_NODES},
                )

    def _classify(self, here: int, node: object) -> Collection[object]:
        """File the node under its kind and return the values in it."""
        cls = type(node)
        container: Any = node
        if cls is tuple or cls is frozenset:
            self._immutable[here] = container if cls is tuple else tuple(container)
            return self._immutable[here]
        if cls in self._plain:
            self._plain[cls].append(container)
            if cls is dict:
                return (*container, *container.values())
            return () if cls is bytearray else container
        try:
            schema = schema_of(cls)
            if isinstance(node, enum.Enum):
                return self._classify_enum(node)
            return self._classify_object(here, node, schema)
        except TypeError as error:
            raise TypeError(f"{self._path(here)} cannot be saved: {error}") from None

    def _classify_enum(self, member: enum.Enum) -> Collection[object]:
        if type(member.value) not in SCALARS:
            raise TypeError(f"enum {type(member).__qualname__} has members that are not plain values")
        self._enums.setdefault(type(member), []).append(member)
        return ()

    def _classify_object(self, here: int, node: object, schema: Schema) -> Collection[object]:
        names, row = self._attributes(node, schema)
        group = self._groups.get((schema.cls, names))
        if group is None:
            _check_names(schema, names)
            group = self._groups[schema.cls, names] = Group(schema, names)
        if schema.hashed is None:
            group.nodes.append(node)
            group.rows.append(row)
        else:
            self._immutable[here] = row
            self._shape[here] = group
        return row

    def _attributes(self, node: object, schema: Schema) -> tuple[tuple[str, ...], tuple[object, ...]]:
        """The names and values of what is saved of an instance."""
        if not schema.slots and not schema.skip:
            attributes = node.__dict__
            return tuple(attributes), tuple(attributes.values())
        slots, row = schema.slots, self._slot_values(node, schema)
        if row is None:
            slots = tuple(name for name in schema.slots if hasattr(node, name))
            row = tuple(getattr(node, name) for name in slots)
        if not schema.has_dict:
            return slots, row
        rest = {name: value for name, value in node.__dict__.items() if name not in schema.skip}
        return (*slots, *rest), (*row, *rest.values())

    def _slot_values(self, node: object, schema: Schema) -> tuple[object, ...] | None:
        """The values of all slots in one call; None if one is not set."""
        get = self._getters.get(schema.cls)
        if get is None:
            get = self._getters[schema.cls] = _getter(schema.slots)
        try:
            return get(node)
        except AttributeError:
            return None

    def _runs(self) -> list[Run]:
        """The immutable nodes in runs, each after those it refers to."""
        runs: dict[tuple[int, object], Run] = {}
        levels = self._levels()
        for here, level in levels.items():
            node = self._queue[here]
            group = self._shape.get(here)
            kind = OBJECTS if group is not None else TUPLES if type(node) is tuple else FROZENSETS
            key = (level, id(group) if group is not None else kind)
            run = runs.get(key)
            if run is None:
                run = runs[key] = Run(kind, group)
            run.nodes.append(node)
            run.rows.append(self._immutable[here])
        if len(runs) > MAX_RUNS:
            deepest = max(levels, key=levels.__getitem__)
            raise TypeError(f"{self._path(deepest)} cannot be saved: immutable values are nested too deep")
        return [runs[key] for key in sorted(runs, key=operator.itemgetter(0))]

    def _levels(self) -> dict[int, int]:
        """Position of each immutable node → 0 if it holds no immutable node, else 1 + the highest level it holds."""
        levels = {at: 0 for at, row in self._immutable.items() if SCALARS.issuperset(map(type, row))}
        for start in self._immutable:
            below = {start: list(self._immutables_in(start))} if start not in levels else {}
            path = [(start, below[start][:])] if below else []
            while path:
                here, todo = path[-1]
                while todo and todo[-1] in levels:
                    todo.pop()
                if not todo:
                    levels[here] = 1 + max((levels[child] for child in below[here]), default=-1)
                    path.pop()
                elif todo[-1] in below:
                    raise TypeError(f"{self._path(todo[-1])} cannot be saved: an immutable value holds itself")
                else:
                    child = todo[-1]
                    below[child] = list(self._immutables_in(child))
                    path.append((child, below[child][:]))
        return levels

    def _immutables_in(self, here: int) -> Iterator[int]:
        for child in self._immutable[here]:
            if type(child) not in SCALARS and (at := self._position[id(child)]) in self._immutable:
                yield at

    def _block(self, values: list[Any]) -> list[Any]:
        """A column of values, nodes replaced by their numbers."""
        kinds = set(map(type, values))
        if kinds <= SCALARS:
            return [None, values]
        index = self._index
        if kinds.isdisjoint(SCALARS):
            return [True, list(map(index.__getitem__, map(id, values)))]
        mask = bytes(map(SCALARS.__contains__, map(type, values))).translate(_INVERT)
        mixed = values[:]
        for at in compress(range(len(values)), mask):
            mixed[at] = index[id(values[at])]
        return [mask, mixed]

    def _items(self, containers: list[Any]) -> list[Any]:
        return self._block(list(chain.from_iterable(containers)))

    def _sequences(self, containers: list[Any]) -> list[Any]:
        return [_lengths(containers), self._items(containers)]

    def _objects(self, group: Group, rows: Rows) -> list[Any]:
        blocks = [self._block(list(column)) for column in zip(*rows, strict=True)]
        return [group.schema.name, list(group.names), len(rows), blocks]

    def _run(self, run: Run) -> list[Any]:
        if run.group is not None:
            return [run.kind, *self._objects(run.group, run.rows)]
        return [run.kind, *self._sequences(run.rows)]

    def _path(self, here: int) -> str:
        """How the node at ``here`` is reached from the root, as in ``kernel.fds.files[3].peer``; long paths are cut."""
        steps: list[str] = []
        while (parent := self._origin[here]) >= 0:
            steps.append(_step(self._queue[parent], self._queue[here]))
            here = parent
        root = type(self._queue[0])
        try:
            start = schema_of(root).name
        except TypeError:
            start = root.__qualname__
        text = "".join(reversed(steps))
        return start + (text if len(text) <= 400 else f"{text[:200]}…{text[-200:]}")


def _lengths(containers: Iterable[Any]) -> list[int]:
    return list(map(len, containers))


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[object, ...]]:
    """A function that gets several attributes as a tuple; attrgetter does not for fewer than two."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda node: tuple(getattr(node, name) for name in names)


def _check_names(schema: Schema, names: tuple[str, ...]) -> None:
    """TypeError unless an instance with these attributes could be read back."""
    if missing := schema.required.difference(names):
        raise TypeError(f"its class always sets {', '.join(sorted(missing))}, but this instance has no such attribute")
    if unknown := set(names).difference(schema.names):
        raise TypeError(f"attribute {', '.join(sorted(unknown))} is not declared by class {schema.cls.__qualname__}")


def _step(parent: object, child: object) -> str:
    """The piece of a path that leads from a node to one directly in it."""
    if isinstance(parent, dict):
        for key, value in parent.items():
            if value is child:
                return f"[{key!r:.60}]"
        return ".keys()"
    if isinstance(parent, (list, tuple, deque)):
        return f"[{next(i for i, value in enumerate(parent) if value is child)}]"
    if isinstance(parent, (set, frozenset)):
        return "{…}"
    names = (*getattr(parent, "__dict__", ()), *schema_of(type(parent)).slots)
    return next(f".{name}" for name in names if getattr(parent, name, None) is child)
