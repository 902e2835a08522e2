"""From an object graph to the flat lists of ``layout.py``: find every node, order the immutable ones, write columns.

Speed comes from working on columns: nodes of one kind together, and within them all values of one attribute, so that
most values are only ever touched by loops in C.
"""

from __future__ import annotations

import enum
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Any

from prong.cell.state.layout import FROZENSETS, MAX_NODES, MAX_RUNS, OBJECTS, SCALARS, TUPLES
from prong.cell.state.schema import Schema, schema_of
from prong.cell.state.trace import path_to
from prong.errors import LimitExceeded

Rows = list[tuple[object, ...]]
_INVERT = bytes.maketrans(b"\0\1", b"\1\0")
_PLAIN = (bytearray, list, deque, set, dict)


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
    nodes: list[object] = field(default_factory=list)
    rows: Rows = field(default_factory=list)


class Flattener:
    """Flattens the graph under ``root``; see :meth:`flatten`."""

    def __init__(self, root: object) -> None:
        self._root = root
        # Also keeps every node alive, so that ids stay valid.
        self._nodes: dict[int, Any] = {id(root): root}
        self._enums: dict[type, list[enum.Enum]] = {}
        self._plain: dict[type, list[Any]] = {kind: [] for kind in _PLAIN}
        self._groups: dict[tuple[type, tuple[str, ...]], Group] = {}
        self._immutable: dict[int, tuple[object, ...]] = {}
        self._shape: dict[int, Group] = {}
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
        self._index = {key: number for number, key in enumerate(map(id, chain.from_iterable(parts)))}
        graph = [
            [[schema_of(cls).name, [m.value for m in members]] for cls, members in self._enums.items()],
            _lengths(plain[bytearray]),
            self._sequences(plain[list]),
            [_lengths(plain[deque]), [d.maxlen for d in plain[deque]], self._items(plain[deque])],
            self._sequences(plain[set]),
            [_lengths(plain[dict]), self._items(plain[dict]), self._items([d.values() for d in plain[dict]])],
            [self._objects(group, group.rows) for group in groups],
            [self._run(run) for run in runs],
            self._index[id(self._root)],
        ]
        return graph, plain[bytearray]

    @property
    def count(self) -> int:
        """How many nodes were found."""
        return len(self._nodes)

    # Finding the nodes, a wave at a time: what is directly in the nodes found last. No recursion, however deep.

    def _discover(self) -> None:
        wave: list[Any] = [self._root]
        while wave:
            kinds: dict[type, list[Any]] = {}
            for node in wave:
                kinds.setdefault(type(node), []).append(node)
            wave = []
            for cls, nodes in kinds.items():
                for values in self._file(cls, nodes):
                    wave += self._fresh(values)
            if len(self._nodes) > MAX_NODES:
                raise LimitExceeded(
                    f"the cell's state has more than {MAX_NODES} objects and cannot be saved",
                    data={"limit": "state_nodes", "allowed": MAX_NODES},
                )

    def _fresh(self, values: Iterable[object]) -> list[object]:
        """The nodes among ``values`` that were not seen before, each once."""
        scalars, known = SCALARS, self._nodes
        found = {id(value): value for value in values if type(value) not in scalars}
        fresh = [value for key, value in found.items() if key not in known]
        known.update(found)
        return fresh

    def _file(self, cls: type, nodes: list[Any]) -> list[Iterable[object]]:
        """Put nodes of one type where they belong; returns the values in them that may be nodes."""
        if cls is tuple or cls is frozenset:
            self._immutable.update(zip(map(id, nodes), nodes if cls is tuple else map(tuple, nodes), strict=True))
            return [chain.from_iterable(nodes)]
        if cls in self._plain:
            self._plain[cls] += nodes
            if cls is dict:
                return [chain.from_iterable(nodes), chain.from_iterable([d.values() for d in nodes])]
            return [] if cls is bytearray else [chain.from_iterable(nodes)]
        try:
            schema = schema_of(cls)
        except TypeError as error:
            raise self._refusal(nodes[0], str(error)) from None
        if schema.is_enum:
            return self._file_enums(cls, nodes)
        return self._file_objects(schema, nodes)

    def _file_enums(self, cls: type, members: list[enum.Enum]) -> list[Iterable[object]]:
        for member in members:
            if type(member.value) not in SCALARS:
                raise self._refusal(member, f"enum {cls.__qualname__} has members that are not plain values")
        self._enums.setdefault(cls, []).extend(members)
        return []

    def _file_objects(self, schema: Schema, nodes: list[Any]) -> list[Iterable[object]]:
        groups: dict[tuple[str, ...], Group] = {}
        attributes = _reader(schema)
        for node in nodes:
            names, row = attributes(node)
            group = groups.get(names)
            if group is None:
                group = groups[names] = self._group(schema, names, node)
            group.nodes.append(node)
            group.rows.append(row)
        columns = chain.from_iterable(zip(*group.rows, strict=True) for group in groups.values())
        values: list[Iterable[object]] = [c for c in columns if not SCALARS.issuperset(map(type, c))]
        for names, part in groups.items():
            if schema.hashed is not None:
                keys = [id(node) for node in part.nodes]
                self._immutable.update(zip(keys, part.rows, strict=True))
                self._shape.update((key, self._groups[schema.cls, names]) for key in keys)
            else:
                whole = self._groups[schema.cls, names]
                whole.nodes += part.nodes
                whole.rows += part.rows
        return values

    def _group(self, schema: Schema, names: tuple[str, ...], node: object) -> Group:
        """An empty group for part of a wave; the first of its shape is checked and remembered."""
        if (schema.cls, names) not in self._groups:
            if missing := schema.required.difference(names):
                listed = ", ".join(sorted(missing))
                raise self._refusal(node, f"its class always sets {listed}, but this instance has no such attribute")
            if unknown := set(names).difference(schema.names):
                listed = ", ".join(sorted(unknown))
                raise self._refusal(node, f"attribute {listed} is not declared by class {schema.cls.__qualname__}")
            self._groups[schema.cls, names] = Group(schema, names)
        return Group(schema, names)

    def _refusal(self, node: object, why: str) -> TypeError:
        return TypeError(f"{path_to(self._root, node)} cannot be saved: {why}")

    # Ordering the immutable nodes

    def _runs(self) -> list[Run]:
        """The immutable nodes in runs, each after those it refers to."""
        runs: dict[tuple[int, object], Run] = {}
        levels = self._levels()
        for key, level in levels.items():
            node, group = self._nodes[key], self._shape.get(key)
            kind = OBJECTS if group is not None else TUPLES if type(node) is tuple else FROZENSETS
            place = (level, id(group) if group is not None else kind)
            run = runs.get(place)
            if run is None:
                run = runs[place] = Run(kind, group)
            run.nodes.append(node)
            run.rows.append(self._immutable[key])
        if len(runs) > MAX_RUNS:
            deepest = max(levels, key=levels.__getitem__)
            raise self._refusal(self._nodes[deepest], "immutable values are nested too deep")
        return [runs[place] for place in sorted(runs, key=operator.itemgetter(0))]

    def _levels(self) -> dict[int, int]:
        """Id of each immutable node → 0 if it holds no immutable node, else 1 + the highest level it holds."""
        levels = {key: 0 for key, row in self._immutable.items() if SCALARS.issuperset(map(type, row))}
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
                    raise self._refusal(self._nodes[todo[-1]], "an immutable value holds itself")
                else:
                    child = todo[-1]
                    below[child] = list(self._immutables_in(child))
                    path.append((child, below[child][:]))
        return levels

    def _immutables_in(self, key: int) -> Iterator[int]:
        for child in self._immutable[key]:
            if type(child) not in SCALARS and id(child) in self._immutable:
                yield id(child)

    # Writing columns

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

    def _items(self, containers: Iterable[Any]) -> list[Any]:
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


def _lengths(containers: Iterable[Any]) -> list[int]:
    return list(map(len, containers))


def _reader(schema: Schema) -> Callable[[Any], tuple[tuple[str, ...], tuple[object, ...]]]:
    """A function that gives the names and values of what is saved of an instance of this class."""

    def from_dict(node: object) -> tuple[tuple[str, ...], tuple[object, ...]]:
        attributes = node.__dict__
        return tuple(attributes), tuple(attributes.values())

    def from_slots(node: object) -> tuple[tuple[str, ...], tuple[object, ...]]:
        try:
            return schema.slots, get(node)
        except AttributeError:
            names = tuple(name for name in schema.slots if hasattr(node, name))
            return names, tuple(getattr(node, name) for name in names)

    def from_both(node: object) -> tuple[tuple[str, ...], tuple[object, ...]]:
        names, row = from_slots(node)
        rest = {name: value for name, value in node.__dict__.items() if name not in schema.skip}
        return (*names, *rest), (*row, *rest.values())

    get = _getter(schema.slots)
    if not schema.has_dict:
        return from_slots
    return from_both if schema.slots or schema.skip else from_dict


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[object, ...]]:
    """A function that gets several attributes as a tuple; attrgetter does not for fewer than two."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda node: tuple(getattr(node, name) for name in names)
