"""The state of a cell to bytes and back: ``encode(kernel)``, ``decode(data, env, Kernel)``.

The bytes: a header (magic, version, CRC-32, lengths), the graph as msgpack (see ``layout.py``), and the contents of all
bytearrays. The CRC tells a damaged file early; the SHA-256 that vouches for a whole snapshot is in its manifest, made
by the engine outside the jailed process (hashlib would cost each cell megabytes of memory).
"""

from __future__ import annotations

import gc
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgpack

from prong.cell.core.errors import SysErr
from prong.cell.state.flatten import Flattener
from prong.cell.state.layout import BIG_INT, FORMAT, MAX_BIG_INT_BYTES, MAX_BIG_INTS, MAX_GRAPH
from prong.cell.state.rebuild import Rebuilder, refuse
from prong.errors import Corrupt, LimitExceeded

T = TypeVar("T")

HEADER = struct.Struct("<8sIIQQ")
"""Magic, format version, CRC-32 of all that follows the header, bytes of graph, bytes of bulk."""
MAGIC = b"prongst\n"

_DATA_ERRORS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, MemoryError)
"""What Python raises when asked for something the data made impossible (msgpack's errors are ValueErrors)."""


def encode(root: object) -> bytes:
    """The graph of registered objects under ``root`` as bytes.

    The caller sees to it that nothing changes meanwhile (a cell is stopped while it is saved).

    Raises:
        TypeError: something cannot be saved; the message has the path to it, as in ``kernel.fds.files[3].peer``.
        LimitExceeded: the state is larger than any reader would accept.
    """
    with _gc_paused():
        graph, bulk = Flattener(root).flatten()
        packed = _pack(graph)
    if len(packed) > MAX_GRAPH:
        raise LimitExceeded(
            f"the cell's state takes {len(packed)} bytes, more than {MAX_GRAPH}, and cannot be saved",
            data={"limit": "state_bytes", "allowed": MAX_GRAPH, "used": len(packed)},
        )
    body = b"".join((packed, *bulk))
    return HEADER.pack(MAGIC, FORMAT, zlib.crc32(body), len(packed), len(body) - len(packed)) + body


def decode(data: bytes | bytearray | memoryview, env: object, root: type[T]) -> T:
    """The graph that :func:`encode` was given, whose root is exactly a ``root``.

    No ``__init__`` runs. When all objects are whole, ``after_load(env)`` is called on each that has it; it may use
    everything that is saved, but not rely on another object's ``after_load``. The root's is the last of all.

    Raises:
        Corrupt: the bytes are not a state of this version, or break a rule; nothing is kept.
    """
    graph, bulk = _open(memoryview(data))
    with _gc_paused():
        try:
            builder = Rebuilder(_unpack(graph), bulk)
            result = builder.rebuild()
        except _DATA_ERRORS as error:
            refuse(f"{type(error).__name__}: {error}"[:300])
    if type(result) is not root:
        refuse(f"it holds a {type(result).__name__}, not a {root.__name__}")
    for node in builder.loaded():
        try:
            node.after_load(env)
        except (*_DATA_ERRORS, OSError, SysErr) as error:
            raise Corrupt(
                f"the saved {type(node).__name__} cannot be taken up here: {type(error).__name__}: {error}"[:400],
                data={"part": "state", "class": type(node).__name__},
            ) from error
    return result


def check(data: bytes | bytearray | memoryview) -> None:
    """Check header and CRC without decoding; Corrupt if wrong."""
    _open(memoryview(data))


def _open(data: memoryview) -> tuple[memoryview, memoryview]:
    """The graph part and the bulk part."""
    if len(data) < HEADER.size or bytes(data[: len(MAGIC)]) != MAGIC:
        refuse("it does not begin like one")
    _, version, crc, graph_size, bulk_size = HEADER.unpack_from(data)
    if version != FORMAT:
        raise Corrupt(
            f"the saved state has format {version}; this version of prong reads format {FORMAT}",
            hint="use the version of prong that made it",
            data={"part": "state", "format": version, "supported": FORMAT},
        )
    body = data[HEADER.size :]
    if graph_size > MAX_GRAPH or graph_size + bulk_size != len(body):
        refuse("its length is not what its header says")
    if zlib.crc32(body) != crc:
        refuse("its checksum does not fit")
    return body[:graph_size], body[graph_size:]


def _pack(graph: list[Any]) -> bytes:
    count = 0

    def big(value: object) -> msgpack.ExtType:
        # Called by msgpack for what it cannot pack; flatten leaves nothing else than integers beyond 64 bits.
        nonlocal count
        if type(value) is not int:
            raise TypeError(f"cannot pack a {type(value).__name__}")
        count += 1
        size = (value.bit_length() + 8) // 8
        if count > MAX_BIG_INTS or size > MAX_BIG_INT_BYTES:
            raise LimitExceeded(
                "the cell's state has too many or too large integers beyond 64 bits and cannot be saved",
                data={"limit": "state_integers", "allowed": MAX_BIG_INTS},
            )
        return msgpack.ExtType(BIG_INT, value.to_bytes(size, "little", signed=True))

    packed: bytes = msgpack.packb(graph, default=big, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _unpack(data: memoryview) -> object:
    left = MAX_BIG_INTS

    def big(code: int, payload: bytes) -> int:
        nonlocal left
        left -= 1
        if code != BIG_INT or left < 0 or len(payload) > MAX_BIG_INT_BYTES:
            refuse("an integer is out of bounds")
        return int.from_bytes(payload, "little", signed=True)

    return msgpack.unpackb(data, ext_hook=big, max_map_len=0, unicode_errors="surrogatepass", raw=False)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Thousands of new containers would set off collections that find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
