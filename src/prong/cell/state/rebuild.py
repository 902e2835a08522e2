"""From the flat lists of ``layout.py`` back to an object graph, trusting nothing in them.

Order: first every mutable node as an empty shell, then the immutable ones (whole at once, referring only to what is
there), then the contents of the shells, dictionaries and sets last, so that whatever is hashed is complete.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Sized
from itertools import accumulate, chain, compress, repeat
from typing import Any, NoReturn, TypeVar

from prong.cell.core.saved import BY_NAME
from prong.cell.state.layout import (
    FROZENSETS,
    MAX_HASH_WORK,
    MAX_NODES,
    MAX_RUNS,
    OBJECTS,
    SCALARS,
    TUPLES,
)
from prong.cell.state.schema import Schema, schema_of
from prong.errors import Corrupt

S = TypeVar("S", bound=Sized)

_UNHASHABLE = 1 << 40
"""The hash cost of what cannot be a key: more than is ever allowed."""


def refuse(what: str) -> NoReturn:
    """Raise Corrupt: the state is not what it claims to be."""
    raise Corrupt(f"the saved state is damaged: {what}", data={"part": "state"})


class Rebuilder:
    """Rebuilds one graph; ``rebuild`` once. ``bulk`` holds the bytes of the bytearrays end to end."""

    def __init__(self, graph: object, bulk: memoryview) -> None:
        self._graph = _list(graph, 9, "graph")
        self._bulk = bulk
        self._nodes: list[Any] = []
        self._cost: list[int] = []
        self._work = 0
        self._listening: list[list[Any]] = []

    def rebuild(self) -> object:
        """The root of the graph, everything filled in, ``after_load`` not yet called.

        Raises:
            Corrupt: the graph breaks a rule of the layout or of a class's schema.
        """
        enums, arrays, lists, deques, sets, dicts, objects, runs, root = self._graph
        self._make_enums(enums)
        self._make_arrays(arrays)
        make_lists = self._shells(lists, 2, list)
        make_deques = self._shells_of_deques(deques)
        make_sets = self._shells(sets, 2, set)
        make_dicts = self._shells(dicts, 3, dict)
        groups = [self._shells_of_objects(_list(group, 4, "object group")) for group in _list(objects, None, "objects")]
        for run in _list(runs, None, "runs", most=MAX_RUNS):
            self._make_run(_list(run, None, "run"))
        for shells, (schema, names, blocks) in groups:
            self._set_attributes(shells, schema, names, blocks)
        self._extend(make_lists, lists[0], lists[1])
        self._extend(make_deques, deques[0], deques[2])
        self._fill_sets(make_sets, sets)
        self._fill_dicts(make_dicts, dicts)
        return self._refs([root])[0]

    def loaded(self) -> Iterator[Any]:
        """The instances whose class has ``after_load``, last found first, so that the root comes at the end."""
        for group in reversed(self._listening):
            yield from reversed(group)

    # Shells

    def _add(self, nodes: list[Any], cost: int) -> None:
        if len(self._nodes) + len(nodes) > MAX_NODES:
            refuse(f"more than {MAX_NODES} objects")
        self._nodes += nodes
        self._cost += [cost] * len(nodes)

    def _make_enums(self, raw: object) -> None:
        for group in _list(raw, None, "enums"):
            name, values = _list(group, 2, "enum group")
            cls = BY_NAME.get(_text(name))
            if cls is None or not issubclass(cls, enum.Enum):
                refuse(f"no enum is saved as {name!r:.80}")
            values = _list(values, None, "enum values")
            if not SCALARS.issuperset(map(type, values)):
                refuse("an enum value is not a plain value")
            try:
                self._add([cls(value) for value in values], 1)
            except ValueError as error:
                refuse(str(error))

    def _make_arrays(self, raw: object) -> None:
        spans = _spans(_lengths(raw), len(self._bulk))
        self._add([bytearray(self._bulk[start:end]) for start, end in spans], _UNHASHABLE)

    def _shells(self, raw: object, parts: int, kind: type) -> list[Any]:
        count = _count(len(_lengths(_list(raw, parts, kind.__name__)[0])))
        shells = [kind() for _ in range(count)]
        self._add(shells, _UNHASHABLE)
        return shells

    def _shells_of_deques(self, raw: object) -> list[Any]:
        lengths, limits, _ = _list(raw, 3, "deques")
        shells: list[Any] = []
        for length, limit in zip(_lengths(lengths), _list(limits, len(lengths), "deque limits"), strict=True):
            if limit is not None and (type(limit) is not int or not length <= limit <= 1 << 62):
                refuse("a deque is longer than its limit")
            shells.append(deque(maxlen=limit))
        self._add(shells, _UNHASHABLE)
        return shells

    def _shells_of_objects(self, raw: list[Any]) -> tuple[list[Any], tuple[Schema, list[str], list[Any]]]:
        schema, names, count, blocks = self._object_group(raw)
        if schema.hashed is not None:
            refuse(f"{schema.name} is given as a mutable object")
        shells = self._instances(schema, count)
        self._add(shells, 1 if schema.hashable else _UNHASHABLE)
        return shells, (schema, names, blocks)

    def _object_group(self, raw: list[Any]) -> tuple[Schema, list[str], int, list[Any]]:
        """A group of instances, checked against the schema of its class."""
        name, names, count, blocks = raw
        cls = BY_NAME.get(_text(name))
        if cls is None:
            refuse(f"no class is saved as {name!r:.80}")
        schema = schema_of(cls)
        if schema.is_enum:
            refuse(f"{name} is an enum")
        names = [_text(n) for n in _list(names, None, "attributes")]
        if len(set(names)) != len(names):
            refuse(f"{name} has an attribute twice")
        if unknown := set(names).difference(schema.names, schema.obsolete):
            refuse(f"{name} has no attribute {sorted(unknown)[0]!r:.80}")
        if missing := schema.required.difference(names):
            refuse(f"{name} lacks its attribute {min(missing)!r}")
        if type(count) is not int or count < 0:
            refuse("a count is not a number")
        return schema, names, _count(count), _list(blocks, len(names), "attribute blocks")

    def _instances(self, schema: Schema, count: int) -> list[Any]:
        """Instances without attributes; ``__init__`` and ``__new__`` of the class do not run."""
        new, cls = object.__new__, schema.cls
        made: list[Any] = [new(cls) for _ in range(count)]
        if schema.after_load:
            self._listening.append(made)
        return made

    # Immutable values

    def _make_run(self, run: list[Any]) -> None:
        if len(run) == 3 and run[0] in (TUPLES, FROZENSETS) and type(run[0]) is int:
            lengths = _lengths(run[1])
            _count(len(lengths))
            values, costs = self._block(run[2], sum(lengths), want_costs=True)
            spans = _spans(lengths, len(values))
            if run[0] == TUPLES:
                self._nodes += [tuple(values[a:b]) for a, b in spans]
            else:
                self._spend(costs)
                self._nodes += [_whole(frozenset(values[a:b]), b - a) for a, b in spans]
            self._cost += [min(1 + sum(costs[a:b]), _UNHASHABLE) for a, b in spans]
        elif len(run) == 5 and type(run[0]) is int and run[0] == OBJECTS:
            self._make_value_objects(run[1:])
        else:
            refuse("a run is of no known kind")
        _count(len(self._nodes))

    def _make_value_objects(self, raw: list[Any]) -> None:
        schema, names, count, blocks = self._object_group(raw)
        if schema.hashed is None:
            refuse(f"{schema.name} is given as an immutable value")
        made = self._instances(schema, count)
        total = [1] * count
        for name, block in zip(names, blocks, strict=True):
            values, costs = self._block(block, count, want_costs=name in schema.hashed)
            self._set(made, schema, name, values)
            if costs:
                total = [min(a + b, _UNHASHABLE) for a, b in zip(total, costs, strict=True)]
        self._nodes += made
        self._cost += total

    # Contents

    def _set_attributes(self, shells: list[Any], schema: Schema, names: list[str], blocks: list[Any]) -> None:
        for name, block in zip(names, blocks, strict=True):
            self._set(shells, schema, name, self._block(block, len(shells))[0])

    def _set(self, objects: list[Any], schema: Schema, name: str, values: list[Any]) -> None:
        if name in schema.names:
            # The schema's own string is interned, which lets instances share their keys. object.__setattr__ passes by
            # a frozen dataclass's refusal and by any __setattr__ a class may have.
            deque(map(object.__setattr__, objects, repeat(schema.names[name]), values), maxlen=0)

    def _extend(self, shells: list[Any], lengths: list[int], block: object) -> None:
        values, _ = self._block(block, sum(lengths))
        for shell, (start, end) in zip(shells, _spans(lengths, len(values)), strict=True):
            shell.extend(values[start:end])

    def _fill_sets(self, shells: list[Any], raw: list[Any]) -> None:
        lengths = raw[0]
        values, costs = self._block(raw[1], sum(lengths), want_costs=True)
        self._spend(costs)
        for shell, (start, end) in zip(shells, _spans(lengths, len(values)), strict=True):
            shell.update(values[start:end])
            _whole(shell, end - start)

    def _fill_dicts(self, shells: list[Any], raw: list[Any]) -> None:
        lengths = raw[0]
        keys, costs = self._block(raw[1], sum(lengths), want_costs=True)
        values, _ = self._block(raw[2], sum(lengths))
        self._spend(costs)
        for shell, (start, end) in zip(shells, _spans(lengths, len(keys)), strict=True):
            shell.update(zip(keys[start:end], values[start:end], strict=True))
            _whole(shell, end - start)

    def _spend(self, costs: list[int]) -> None:
        """Count values about to be hashed."""
        self._work += sum(costs)
        if self._work >= _UNHASHABLE:
            refuse("a key is a value that cannot be one")
        if self._work > MAX_HASH_WORK:
            refuse("its keys are too large")

    def _block(self, raw: object, count: int, *, want_costs: bool = False) -> tuple[list[Any], list[int]]:
        """``count`` values, node numbers replaced by nodes, and (if wanted) what hashing each costs."""
        mask, values = _list(raw, 2, "block")
        _list(values, count, "block's values")
        if mask is True:
            return self._refs(values), list(map(self._cost.__getitem__, values)) if want_costs else []
        if not SCALARS.issuperset(map(type, values)):
            refuse("a value is of a kind that cannot be there")
        if mask is None:
            return values, [1] * count if want_costs else []
        if type(mask) is not bytes or len(mask) != count or mask.translate(None, b"\0\1"):
            refuse("a mask does not fit its values")
        numbers = list(compress(values, mask))
        places = list(compress(range(count), mask))
        for at, node in zip(places, self._refs(numbers), strict=True):
            values[at] = node
        costs = [1] * count if want_costs else []
        if want_costs:
            for at, number in zip(places, numbers, strict=True):
                costs[at] = self._cost[number]
        return values, costs

    def _refs(self, numbers: list[Any]) -> list[Any]:
        if numbers:
            if set(map(type, numbers)) != {int}:
                refuse("a node number is not a number")
            if min(numbers) < 0 or max(numbers) >= len(self._nodes):
                refuse("a node number points outside the graph")
        return list(map(self._nodes.__getitem__, numbers))


def _list(value: object, length: int | None, what: str, *, most: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        refuse(f"{what}: wrong shape")
    if most is not None and len(value) > most:
        refuse(f"{what}: more than {most}")
    return value


def _text(value: object) -> str:
    return value if type(value) is str else refuse("a name is not text")


def _count(count: int) -> int:
    return count if count <= MAX_NODES else refuse(f"more than {MAX_NODES} objects")


def _lengths(raw: object) -> list[int]:
    lengths = _list(raw, None, "lengths")
    if lengths and (set(map(type, lengths)) != {int} or min(lengths) < 0):
        refuse("a length is not a number")
    return lengths


def _spans(lengths: list[int], total: int) -> list[tuple[int, int]]:
    ends = list(accumulate(lengths))
    if (ends[-1] if ends else 0) != total:
        refuse("lengths do not add up")
    return list(zip(chain((0,), ends), ends, strict=False))


def _whole(container: S, count: int) -> S:
    return container if len(container) == count else refuse("a key is there twice")
