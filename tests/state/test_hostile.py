"""Bytes from anywhere: whatever is done to a state, decoding says Corrupt or gives a graph, in bounded time."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
import zlib
from typing import Any

import msgpack
import pytest

from prong.cell.state.codec import HEADER, MAGIC, check, decode, encode
from prong.cell.state.layout import FORMAT, FROZENSETS, MAX_NODES, MAX_RUNS, OBJECTS, TUPLES
from prong.errors import Corrupt
from tests.state.graphs import Box, Color, Host, Level, Pair, Point, Slim, Wide


def sample() -> Box:
    """A graph with every kind of node in it."""
    box = Box({"k": [1, 2.5, None], (1, Level.LOW): b"x" * 40, Point(1, (2,)): Color.RED})
    box.items = (frozenset({1, Pair(1, "a")}), {3, "s"}, bytearray(b"bulk"), 1 << 90, Host("h"))
    box.peer = [Slim(box, Wide(1, 2.0)), box]
    return box


def seal(graph: object, bulk: bytes = b"") -> bytes:
    """A state with a right header around any graph."""
    return seal_raw(msgpack.packb(graph), bulk)


def seal_raw(packed: bytes, bulk: bytes = b"") -> bytes:
    body = packed + bulk
    return HEADER.pack(MAGIC, FORMAT, zlib.crc32(body), len(packed), len(bulk)) + body


def graph_with(**parts: object) -> list[Any]:
    """The emptiest graph (one Box as root), some of its parts replaced."""
    names = ("enums", "arrays", "lists", "deques", "sets", "dicts", "objects", "runs", "root")
    graph: dict[str, object] = {
        "enums": [], "arrays": [], "lists": [[], [None, []]], "deques": [[], [], [None, []]],
        "sets": [[], [None, []]], "dicts": [[], [None, []], [None, []]],
        "objects": [["test.box", ["a", "items", "peer"], 1, [[None, [None]]] * 3]], "runs": [], "root": 0,
    }  # fmt: skip
    assert set(parts) <= set(graph)
    return [{**graph, **parts}[name] for name in names]


def attempt(data: bytes) -> bool:
    """Whether it decoded; any exception but Corrupt fails the test."""
    try:
        decode(data, [], Box)
    except Corrupt:
        return False
    return True


def test_the_emptiest_graph_is_valid() -> None:
    assert decode(seal(graph_with()), [], Box).a is None


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_noticed(seed: int) -> None:
    data, random_ = encode(sample()), random.Random(seed)
    for _ in range(300):
        broken = bytearray(data)
        broken[random_.randrange(len(broken))] ^= 1 << random_.randrange(8)
        with pytest.raises(Corrupt):
            decode(broken, [], Box)
    for size in range(len(data)):
        with pytest.raises(Corrupt):
            check(data[:size])


@pytest.mark.parametrize("seed", range(8))
def test_forged_bytes_do_no_harm(seed: int) -> None:
    """Mutations of the graph's bytes under a right checksum."""
    data, random_ = encode(sample()), random.Random(seed)
    _, _, _, size, _ = HEADER.unpack_from(data)
    graph, bulk = data[HEADER.size : HEADER.size + size], data[HEADER.size + size :]
    refused = 0
    for _ in range(1500):
        broken = bytearray(graph)
        for _ in range(random_.choice((1, 1, 1, 2, 8))):
            at = random_.randrange(len(broken))
            match random_.randrange(4):
                case 0:
                    broken[at] = random_.randrange(256)
                case 1:
                    del broken[at : at + random_.randrange(1, 9)]
                case 2:
                    broken[at:at] = random_.randbytes(random_.randrange(1, 9))
                case _:
                    start = random_.randrange(len(broken))
                    broken[at:at] = broken[start : start + random_.randrange(40)]
        refused += not attempt(seal_raw(bytes(broken), bulk))
    assert refused > 500


@pytest.mark.parametrize("seed", range(8))
def test_forged_structures_do_no_harm(seed: int) -> None:
    """Mutations of the graph's values: well-formed msgpack with wrong contents, which gets further in."""
    data, random_ = encode(sample()), random.Random(seed)
    _, _, _, size, _ = HEADER.unpack_from(data)
    packed, bulk = data[HEADER.size : HEADER.size + size], data[HEADER.size + size :]
    loaded = 0
    for _ in range(1500):
        graph = msgpack.unpackb(packed)
        for _ in range(random_.choice((1, 1, 2, 5))):
            places = list(_places(graph))
            parent, key = random_.choice(places)
            other, other_key = random_.choice(places)
            values: tuple[Any, ...] = (
                None,
                True,
                False,
                0,
                1,
                -1,
                2**40,
                2**64 - 1,
                1.5,
                "a",
                "__class__",
                b"",
                b"\1",
                [],
                {},
                [[], []],
            )
            parent[key] = random_.choice((*values, other[other_key], msgpack.ExtType(1, b""), msgpack.ExtType(9, b"x")))
        try:
            broken = msgpack.packb(graph)
        except (ValueError, RecursionError):
            continue  # it was made to hold itself
        loaded += attempt(seal_raw(broken, bulk))
    assert 0 < loaded < 1400


def _places(value: list[Any]) -> list[tuple[list[Any], int]]:
    found: list[tuple[list[Any], int]] = []
    todo = [value]
    while todo and len(found) < 5000:
        here = todo.pop()
        found += [(here, i) for i in range(len(here))]
        todo += [item for item in here if isinstance(item, list)]
    return found


BOX = ["a", "items", "peer"]
NONE3 = [[None, [None]]] * 3


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"objects": [["prong.os", [], 1, []]]}, "no class is saved as"),
        ({"objects": [["test.box", [*BOX, "__class__"], 1, [*NONE3, [None, [1]]]]]}, "no attribute '__class__'"),
        ({"objects": [["test.box", [*BOX, "also"], 1, [*NONE3, [None, [1]]]]]}, "no attribute 'also'"),
        ({"objects": [["test.box", [*BOX, "shown"], 1, [*NONE3, [None, [1]]]]]}, "no attribute 'shown'"),
        ({"objects": [["test.box", [*BOX, "limit"], 1, [*NONE3, [None, [1]]]]]}, "no attribute 'limit'"),
        ({"objects": [["test.box", ["a", "items"], 1, NONE3[:2]]]}, "lacks its attribute 'peer'"),
        ({"objects": [["test.box", ["a", "a", "items"], 1, NONE3]]}, "attribute twice"),
        ({"objects": [["test.host", ["name", "other", "fd"], 1, NONE3]]}, "no attribute 'fd'"),
        ({"objects": [["test.box", BOX, 1 << 60, NONE3]]}, f"more than {MAX_NODES}"),
        ({"objects": [["test.box", BOX, MAX_NODES, NONE3]]}, "wrong shape"),
        ({"objects": [["test.color", [], 1, []]]}, "is an enum"),
        ({"objects": [["test.point", ["x", "y", "note"], 1, NONE3]]}, "as a mutable object"),
        ({"runs": [[OBJECTS, "test.box", BOX, 1, NONE3]]}, "as an immutable value"),
        ({"runs": [[TUPLES, [1], [True, [1]]]]}, "points outside"),
        ({"runs": [[TUPLES, [1], [True, [-1]]]]}, "points outside"),
        ({"runs": [[TUPLES, [2], [None, [1]]]]}, "wrong shape"),
        ({"runs": [[7, [1], [None, [1]]]]}, "no known kind"),
        ({"runs": [[FROZENSETS, [2], [None, [1, 1]]]]}, "twice"),
        ({"runs": [[TUPLES, [0], [None, []]]] * (MAX_RUNS + 1)}, f"more than {MAX_RUNS}"),
        ({"enums": [["test.color", ["green"]]]}, "not a valid"),
        ({"enums": [["test.box", [1]]]}, "no enum is saved as"),
        ({"lists": [[1], [None, [{}]]]}, "of a kind that cannot be there"),
        ({"lists": [[1], [b"\2", [0]]]}, "mask does not fit"),
        ({"lists": [[1], [True, [None]]]}, "not a number"),
        ({"lists": [[-1, 1], [None, []]]}, "length is not a number"),
        ({"lists": [[1 << 62], [None, []]]}, "wrong shape"),
        ({"dicts": [[2], [None, [1, 1]], [None, [1, 1]]]}, "twice"),
        ({"dicts": [[1], [True, [0]], [None, [1]]]}, "cannot be one"),
        ({"sets": [[1], [True, [0]]]}, "cannot be one"),
        ({"deques": [[2], [1], [None, [1, 1]]]}, "longer than its limit"),
        ({"arrays": [5]}, "do not add up"),
        ({"root": 5}, "points outside"),
        ({"root": True}, "not a number"),
        ({"enums": [["test.level", [1]]], "root": 0}, "a Level, not a Box"),
    ],
)
def test_each_rule_refuses(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(Corrupt, match=why):
        decode(seal(graph_with(**parts)), [], Box)


def test_a_key_that_holds_a_list_is_refused_before_it_is_hashed() -> None:
    runs = [[TUPLES, [1], [True, [0]]], [TUPLES, [1], [True, [3]]]]
    parts = {"lists": [[0], [None, []]], "dicts": [[1], [True, [4]], [None, [1]]], "runs": runs}
    with pytest.raises(Corrupt, match="cannot be one"):
        decode(seal(graph_with(**parts)), [], Box)


def test_exponential_keys_are_refused() -> None:
    """Thirty tuples, each holding the one before twice: a billion values to hash if it were tried."""
    runs: list[Any] = [[TUPLES, [1], [None, [1]]]]
    runs += [[TUPLES, [2], [True, [i + 2, i + 2]]] for i in range(30)]
    with pytest.raises(Corrupt, match="too large"):
        decode(seal(graph_with(dicts=[[1], [True, [32]], [None, [1]]], runs=runs)), [], Box)


def test_other_versions_are_refused_with_their_number() -> None:
    data = bytearray(encode(Box()))
    struct.pack_into("<I", data, 8, FORMAT + 1)
    with pytest.raises(Corrupt, match=f"format {FORMAT + 1}; this version of prong reads format {FORMAT}"):
        decode(data, [], Box)


BOMBS = """
import resource, msgpack, struct, sys
from tests.state.test_hostile import attempt, graph_with, seal, seal_raw
from prong.cell.state.layout import MAX_NODES
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
array32 = b"\\xdd" + struct.pack(">I", 60_000_000)
bombs = [
    seal_raw(array32 * 1000 + bytes(100_000)),
    seal_raw(b"\\x91" * 2_000_000),
    seal_raw(b"\\x81\\xa1a" * 2_000_000),
    seal(graph_with(lists=[[0] * MAX_NODES, [None, []]])),
    seal(graph_with(dicts=[[0] * (MAX_NODES + 1), [None, []], [None, []]])),
    seal(graph_with(runs=[["test.pair"]] * 200)),
    seal(graph_with(objects=[["test.empty", [], MAX_NODES, []]] * 1000)),
    seal_raw(msgpack.packb(graph_with(lists=[[1], [None, [msgpack.ExtType(1, bytes(1 << 20))]]]))),
    seal_raw(b"\\xc9" + struct.pack(">I", 1 << 31) + b"\\1"),
]
for bomb in bombs:
    assert not attempt(bomb)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_bombs_stay_small() -> None:
    """Under a 2 GiB address space, as a cell's host process has a limit too."""
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout) // (resource.getpagesize() // 4)
    print(f"peak {peak // 1024} MiB")
