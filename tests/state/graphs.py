"""Classes registered for the tests of the codec, random graphs of them, and a comparison of graphs by shape."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st

from prong.cell.core.saved import saved


@saved("test.color")
class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@saved("test.level")
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@saved("test.flags")
class Flags(enum.IntFlag):
    A = 1
    B = 2


@saved("test.box")
class Box:
    """An ordinary class; ``b`` is only sometimes there."""

    limit: ClassVar[int] = 3

    def __init__(self, a: object = None, items: object = None) -> None:
        self.a = a
        self.items = items
        self.peer: object = None

    def also(self, b: object) -> None:
        self.b = b

    @property
    def shown(self) -> object:
        return self.a


@saved("test.slim")
class Slim:
    __slots__ = ("maybe", "one", "two")

    def __init__(self, one: object = None, two: object = None) -> None:
        self.one = one
        self.two = two


@saved("test.wide")
class Wide(Slim):
    """Slots from its base, and a ``__dict__``."""

    def __init__(self, one: object = None, two: object = None) -> None:
        super().__init__(one, two)
        self.three: object = None


@saved("test.point")
@dataclass(frozen=True)
class Point:
    x: object
    y: object = 0
    note: list[Any] = field(default_factory=list, compare=False)


@saved("test.pair")
@dataclass(frozen=True, slots=True)
class Pair:
    left: object
    right: object


@saved("test.host", skip=("fd", "view"))
class Host:
    """Has host things, remade after loading."""

    def __init__(self, name: str, other: object = None) -> None:
        self.name = name
        self.other = other
        self.fd = -1
        self.view = memoryview(b"")

    def after_load(self, env: list[tuple[str, str | None]]) -> None:
        # Everything saved is there already, in whatever order the objects are told.
        env.append((self.name, self.other.name if isinstance(self.other, Host) else None))
        self.fd = 1000
        self.view = memoryview(b"again")


@saved("test.empty")
class Empty:
    """Has no attributes at all."""


class Unsaved:
    """Not registered."""


class UnsavedBox(Box):
    """Not registered, though its base is."""


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-(2**300), 2**300),
    st.floats(),
    st.text(st.characters(), max_size=8),
    st.binary(max_size=40),
    st.sampled_from([*Color, *Level, *Flags, Flags.A | Flags.B]),
)
_KEYS = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=3), st.sampled_from([*Color, *Level]))
_MUTABLE = ("list", "dict", "set", "deque", "bytearray", "box", "slim", "wide", "keys")
_IMMUTABLE = ("tuple", "frozenset", "point", "pair")


@st.composite
def graphs(draw: st.DrawFn) -> Box:
    """A Box from which a random graph with shared parts and cycles is reached."""
    kinds = draw(st.lists(st.sampled_from(_MUTABLE), max_size=12))
    nodes: list[Any] = [_shell(kind) for kind in kinds]
    for kind in draw(st.lists(st.sampled_from(_IMMUTABLE), max_size=8)):
        picks = [draw(st.one_of(_SCALARS, st.sampled_from(nodes)) if nodes else _SCALARS) for _ in range(2)]
        nodes.append(_immutable(kind, picks, draw(st.frozensets(_KEYS, max_size=3))))
    value = st.one_of(_SCALARS, st.sampled_from(nodes)) if nodes else _SCALARS
    for kind, node in zip(kinds, nodes, strict=False):
        _fill(kind, node, draw(st.lists(value, max_size=5)), draw(st.lists(_KEYS, max_size=5)), nodes)
    return Box(draw(value), nodes)


def _shell(kind: str) -> object:
    made: dict[str, Any] = {
        "list": list, "dict": dict, "set": set, "deque": deque, "bytearray": bytearray,
        "box": Box, "slim": Slim, "wide": Wide, "keys": dict,
    }  # fmt: skip
    return made[kind]()


def _immutable(kind: str, picks: list[Any], keys: frozenset[Any]) -> object:
    match kind:
        case "tuple":
            return tuple(picks)
        case "point":
            return Point(picks[0] if _hashable(picks[0]) else 7, note=[picks[1]])
        case "pair":
            return Pair(*picks)
        case _:
            return frozenset([*keys, *(p for p in picks if _hashable(p))])


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _fill(kind: str, shell: object, values: list[Any], keys: list[Any], nodes: list[Any]) -> None:
    node: Any = shell
    match kind:
        case "list" | "deque":
            node.extend(values)
        case "dict":
            node.update(zip(keys, values, strict=False))
        case "keys":
            node.update((v, i) for i, v in enumerate(nodes) if _hashable(v))
        case "set":
            node.update(keys, (v for v in values if _hashable(v)))
        case "bytearray":
            node.extend(repr(keys).encode())
        case _:
            for name, value in zip(("one", "two", "maybe") if kind != "box" else ("a", "b", "peer"), values, strict=False):
                setattr(node, name, value)


def same(left: object, right: object) -> bool:
    """Whether two graphs have the same shape: equal values, and objects shared in one are shared in the other."""
    seen: dict[int, int] = {}
    back: dict[int, int] = {}
    todo: list[tuple[Any, Any]] = [(left, right)]
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, (type(None), bool, int, float, str, bytes, enum.Enum)):
            if repr(a) != repr(b):
                return False
            continue
        if id(a) in seen or id(b) in back:
            # Empty tuples and the like may be one object on one side only.
            if seen.get(id(a)) != id(b) and a not in ((), frozenset()):
                return False
            continue
        seen[id(a)], back[id(b)] = id(b), id(a)
        parts_a, parts_b = _parts(a), _parts(b)
        if len(parts_a) != len(parts_b):
            return False
        todo += zip(parts_a, parts_b, strict=True)
    return True


def _parts(node: object) -> list[Any]:
    value: Any = node
    if isinstance(value, bytearray):
        return [bytes(value)]
    if isinstance(value, deque):
        return [value.maxlen, *value]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, (set, frozenset)):
        # Elements without an order of their own are told apart by what they look like; enough for these tests.
        return [len(value), *sorted(repr(_plain(v)) for v in value)]
    slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ()) if hasattr(value, s)]
    names = sorted({*slots, *getattr(value, "__dict__", {})})
    return [*names, *(getattr(value, name) for name in names)]


def _plain(value: object) -> object:
    return value if isinstance(value, (type(None), int, float, str, bytes, enum.Enum)) else type(value).__qualname__
