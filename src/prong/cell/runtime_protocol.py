"""The control protocol of the Python runtime, outside: requests to bytes, hostile bytes to typed events. No I/O.

What comes from inside a cell was written by code nobody has read. A frame that is too long, is not JSON, is nested, has
a field of the wrong type or an unknown type is a :class:`ProtocolViolation`: the runtime does not do that, so the
sandbox is compromised or broken and its owner ends it. What users may legitimately cause (JSON data too deep to read)
only loses that one form of a result. The vocabulary is the table in :mod:`prong.guest.messages`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from prong.cell.runtime_fields import ProtocolViolation, Reader, load_json, parse_bundle, parse_error
from prong.cell.runtime_messages import (
    Completed,
    ContextInfo,
    ContextList,
    Display,
    Failed,
    Finished,
    Forked,
    GuestMessage,
    InterruptIgnored,
    MainResult,
    Pong,
    Ready,
    Refused,
    Request,
    Started,
    WarmFailed,
)
from prong.errors import InvalidInput
from prong.guest import messages as m

__all__ = ["FrameDecoder", "ProtocolViolation", "encode", "parse"]

_MAX_DEPTH = 12
_MAX_MATCHES = 10_000
_MAX_CONTEXTS = 10_000


def encode(request: Request) -> bytes:
    """One request as a frame. Raises InvalidInput when it is larger than a frame may be, or not JSON."""
    message = {"type": request.kind, "id": request.id, **request.fields()}
    try:
        body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the {request.kind} request cannot be sent as JSON: {error}") from error
    data = body.encode("utf-8", "backslashreplace")  # a lone surrogate as its JSON escape
    if len(data) > m.MAX_FRAME:
        raise InvalidInput(
            f"the {request.kind} request is {len(data)} bytes, a frame holds {m.MAX_FRAME}",
            hint="write large input to a file in the sandbox",
        )
    return len(data).to_bytes(m.HEADER, "big") + data


def _ready(r: Reader) -> Ready:
    if r.whole("protocol") != m.PROTOCOL:
        r.reject(f"speaks another protocol than {m.PROTOCOL}")
    return Ready(r.text("python"), r.texts("packages", _MAX_MATCHES))


def _forked(r: Reader) -> Forked:
    ok = r.flag("ok")
    return Forked(r.optional_whole("id"), None if ok else parse_error(r.child("error")))


def _contexts(r: Reader) -> ContextList:
    children = r.children("contexts", _MAX_CONTEXTS)
    infos = (ContextInfo(c.text("name"), c.whole("execution_count"), c.optional_text("cwd")) for c in children)
    return ContextList(r.whole("id"), tuple(infos))


def _refused(r: Reader) -> Refused:
    return Refused(r.optional_whole("id"), r.one_of("code", m.REFUSALS), r.text("message"))


_PARSERS: Mapping[str, Callable[[Reader], GuestMessage]] = {
    m.READY: _ready,
    m.WARM_FAILED: lambda r: WarmFailed(parse_error(r.child("error"))),
    m.STARTED: lambda r: Started(r.whole("id"), r.text("nonce"), r.whole("execution_count")),
    m.DISPLAY: lambda r: Display(r.optional_whole("id"), parse_bundle(r.child("bundle"), is_main=False)),
    m.RESULT: lambda r: MainResult(r.whole("id"), r.text("nonce"), parse_bundle(r.child("bundle"), is_main=True)),
    m.ERROR: lambda r: Failed(r.whole("id"), r.text("nonce"), parse_error(r.child("error"))),
    m.FINISHED: lambda r: Finished(
        r.whole("id"), r.text("nonce"), r.whole("exit_code", most=255), r.whole("execution_count")
    ),
    m.FORKED: _forked,
    m.CONTEXTS: _contexts,
    m.COMPLETED: lambda r: Completed(r.whole("id"), r.texts("matches", _MAX_MATCHES), r.whole("start"), r.whole("end")),
    m.PONG: lambda r: Pong(r.whole("id")),
    m.INTERRUPT_IGNORED: lambda r: InterruptIgnored(r.whole("last_id")),
    m.REFUSED: _refused,
}


def parse(body: bytes) -> GuestMessage:
    """One frame's JSON as an event. Raises ProtocolViolation."""
    try:
        value = load_json(body, _MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"a frame is not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise ProtocolViolation("a frame is not an object")
    kind = value.get("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise ProtocolViolation("a frame has an unknown type", data={"type": str(kind)[:100]})
    return parser(Reader(str(kind), value))


class FrameDecoder:
    """Bytes in as they come, events out.

    After a :class:`ProtocolViolation` it refuses everything: the stream is no longer to be trusted anywhere.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken: ProtocolViolation | None = None

    def feed(self, data: bytes) -> list[GuestMessage]:
        """Events completed by ``data``. Raises ProtocolViolation; events before the bad frame are then lost too."""
        if self._broken is not None:
            raise self._broken
        try:
            return self._decode(data)
        except ProtocolViolation as violation:
            self._broken = violation
            self._held.clear()
            raise

    @property
    def in_frame(self) -> bool:
        """Whether part of a frame is held: an end of stream now would cut it."""
        return bool(self._held)

    def _decode(self, data: bytes) -> list[GuestMessage]:
        held = self._held
        held += data
        events = []
        start = 0
        while len(held) - start >= m.HEADER:
            size = int.from_bytes(held[start : start + m.HEADER], "big")
            if size > m.MAX_FRAME:
                raise ProtocolViolation(f"a frame of {size} bytes, the most is {m.MAX_FRAME}", data={"size": size})
            end = start + m.HEADER + size
            if len(held) < end:
                break
            events.append(parse(bytes(held[start + m.HEADER : end])))
            start = end
        del held[:start]
        return events
