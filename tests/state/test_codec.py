"""The state codec: what comes back is what went in, and what cannot go in says where it is."""

from __future__ import annotations

import enum
import functools
from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings

from prong.cell.core.saved import BY_CLASS, BY_NAME, saved
from prong.cell.state.codec import check, decode, encode
from prong.cell.state.layout import MAX_BIG_INTS
from prong.cell.state.schema import schema_of
from prong.errors import Corrupt, LimitExceeded
from tests.state.graphs import (
    Box,
    Color,
    Flags,
    Host,
    Level,
    Pair,
    Point,
    Slim,
    Unsaved,
    UnsavedBox,
    Wide,
    graphs,
    same,
)


def again(box: Box) -> Box:
    return decode(encode(box), [], Box)


@given(graphs())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_graph_comes_back(box: Box) -> None:
    data = encode(box)
    check(data)
    loaded = decode(data, [], Box)
    assert same(box, loaded)
    assert same(box, again(loaded))


def test_shared_parts_stay_shared_and_cycles_closed() -> None:
    shared = [1]
    box = Box({"x": shared, 7: shared}, (shared, (shared,)))
    box.peer = [box, deque([box], maxlen=4)]
    got = again(box)
    assert isinstance(got.a, dict) and isinstance(got.items, tuple) and isinstance(got.peer, list)
    assert got.a["x"] is got.a[7] is got.items[0] is got.items[1][0]
    assert got.peer[0] is got and got.peer[1][0] is got and got.peer[1].maxlen == 4


def test_integers_of_every_size() -> None:
    edge = [s * 2**n + d for n in (0, 7, 8, 31, 32, 63, 64, 65, 127, 4000) for d in (-1, 0, 1) for s in (1, -1)]
    assert again(Box(edge, {i: i for i in edge})).items == {i: i for i in edge}


def test_too_many_huge_integers_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        encode(Box([2**70 + i for i in range(MAX_BIG_INTS + 1)]))
    with pytest.raises(LimitExceeded):
        encode(Box(1 << 100_000))


def test_types_are_kept() -> None:
    values = [
        True,
        1,
        1.0,
        "s",
        b"s",
        bytearray(b"s"),
        Level.LOW,
        Color.RED,
        Flags.A | Flags.B,
        "\udc80",
        None,
        float("inf"),
    ]
    got = again(Box(values)).a
    assert isinstance(got, list)
    assert [type(v) for v in got] == [type(v) for v in values]
    assert got == values and got[6] is Level.LOW


def test_value_objects_as_keys() -> None:
    inner = (Point(1, "a"), frozenset({Pair(2, 3)}))
    box = Box({Point(inner, 2): "x", (1, (2, (3, Level.HIGH))): "y"}, {Pair(inner, Color.RED)})
    got = again(box)
    assert got.a == box.a and got.items == box.items
    assert isinstance(got.a, dict)
    # A list that a frozen value holds may lead back to the root.
    point = Point(1)
    point.note.append(point)
    back = again(Box(point)).a
    assert isinstance(back, Point) and back.note[0] is back


def test_identity_objects_as_keys() -> None:
    box, slim = Box(), Slim()
    box.a = {slim: box, box: slim}
    got = again(box)
    assert isinstance(got.a, dict)
    (first, second), values = got.a, list(got.a.values())
    assert isinstance(first, Slim) and second is got and values == [got, first]


def test_unset_slots_stay_unset_and_dict_beside_slots() -> None:
    wide = Wide(1, 2)
    wide.three = wide
    got = again(Box(Slim(1, 2), wide))
    assert isinstance(got.a, Slim) and not hasattr(got.a, "maybe")
    assert isinstance(got.items, Wide) and got.items.three is got.items and got.items.two == 2


def test_init_does_not_run_and_after_load_sees_everything() -> None:
    first, second = Host("first"), Host("second")
    first.other, second.other = second, first
    told: list[object] = []
    got = decode(encode(first), told, Host)
    assert sorted(told, key=str) == [("first", "second"), ("second", "first")]
    assert told[-1] == ("first", "second"), "the root is told last"
    assert got.fd == 1000 and bytes(got.view) == b"again"


def test_after_load_that_fails_is_corrupt_with_the_class() -> None:
    with pytest.raises(Corrupt) as caught:
        decode(encode(Host("x")), object(), Host)
    assert caught.value.data["class"] == "Host"


def test_depth_is_no_limit_for_mutable_nodes() -> None:
    top: list[object] = []
    for _ in range(50_000):
        top = [top]
    got: object = again(Box(top)).a
    for _ in range(50_000):
        assert isinstance(got, list)
        (got,) = got
    assert got == []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Unsaved(), "test.box.a"),
        ([0, {"k": (1, Unsaved())}], "test.box.a[1]['k'][1]"),
        (Slim(one=deque([UnsavedBox()])), "test.box.a.one[0]"),
        (memoryview(b"x"), "test.box.a"),
        (functools.partial(print), "test.box.a"),
        (range(3), "test.box.a"),
        ({Unsaved: 1}, "test.box.a.keys()"),
        (enum.IntEnum("Other", "X").X, "test.box.a"),  # type: ignore[attr-defined]
    ],
)
def test_what_cannot_be_saved_says_where(value: object, path: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode(Box(value))
    assert str(caught.value).startswith(f"{path} cannot be saved: ")


def test_undeclared_and_missing_attributes_are_found_when_saving() -> None:
    box = Box()
    box.__dict__["stray"] = 1
    with pytest.raises(TypeError, match=r"stray is not declared"):
        encode(box)
    bare = object.__new__(Box)
    with pytest.raises(TypeError, match=r"always sets a, items, peer"):
        encode(bare)


def test_immutable_cycles_and_towers_are_refused() -> None:
    pair = Pair(1, 2)
    object.__setattr__(pair, "left", (pair,))
    with pytest.raises(TypeError, match="holds itself"):
        encode(Box(pair))
    tower: object = ()
    for _ in range(5000):
        tower = (tower,)
    with pytest.raises(TypeError, match="nested too deep"):
        encode(Box(tower))


def test_the_root_must_be_what_was_asked_for() -> None:
    with pytest.raises(Corrupt, match="a Box, not a Slim"):
        decode(encode(Box()), None, Slim)


def test_schema_reads_the_class() -> None:
    box = schema_of(Box)
    assert set(box.names) == {"a", "items", "peer", "b"}
    assert box.required == {"a", "items", "peer"}
    assert schema_of(Wide).required == {"one", "two", "three"}
    assert schema_of(Host).names.keys() == {"name", "other"}
    assert schema_of(Point).hashed == ("x", "y") and schema_of(Point).required == {"x", "note"}


def test_schema_tells_sometimes_from_always() -> None:
    class Choosy:
        def __init__(self, flag: bool) -> None:
            self.before = 1
            if flag:
                self.inside = 2
            for item in range(int(flag)):
                self.looped = item
            self.chosen = 3 if flag else 4
            if flag:
                return
            self.after = 5

    BY_CLASS[Choosy] = ("test.choosy", frozenset())
    try:
        schema = schema_of(Choosy)
    finally:
        del BY_CLASS[Choosy]
    assert set(schema.names) == {"before", "inside", "looped", "chosen", "after"}
    assert schema.required == {"before", "chosen"}


def test_classes_that_cannot_be_saved_are_named() -> None:
    class Words(list[str]):
        pass

    class Odd:
        def __hash__(self) -> int:
            return 1

    for cls, why in ((Words, "extends list"), (Odd, "__hash__ of its own"), (Unsaved, "not registered")):
        if cls is not Unsaved:
            BY_CLASS[cls] = (f"test.{cls.__name__}", frozenset())
        try:
            with pytest.raises(TypeError, match=why):
                schema_of(cls)
        finally:
            BY_CLASS.pop(cls, None)


def test_a_state_from_before_an_attribute_came_and_went_still_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    @saved("test.versioned")
    class Old:
        def __init__(self) -> None:
            self.kept = 1
            self.dropped = [2]

    try:
        data = encode(Box(Old()))
        del BY_NAME["test.versioned"]

        @saved("test.versioned")
        class New:
            _obsolete_ = ("dropped",)
            added = 9

            def __init__(self) -> None:
                self.kept = 1
                self.added = 8

        got = decode(data, None, Box).a
        assert isinstance(got, New) and got.kept == 1 and got.added == 9 and not hasattr(got, "dropped")
    finally:
        del BY_NAME["test.versioned"]
