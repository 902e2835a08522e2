"""The control protocol of the Python runtime, outside: requests to bytes, hostile bytes to typed events. No I/O.

What comes from inside a cell was written by code nobody has read. A frame that is too long, is not JSON, is nested, has
a field of the wrong type or an unknown type is a :class:`ProtocolViolation`: the runtime does not do that, so the
sandbox is compromised or broken and its owner ends it. What users may legitimately cause (JSON data too deep to read)
only loses that one form of a result. The vocabulary is the table in :mod:`prong.guest.messages`.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Never

from prong.cell.results import ErrorInfo, Result
from prong.cell.runtime_fields import ProtocolViolation, Reader, parse_bundle, parse_error
from prong.errors import InvalidInput, Json
from prong.guest import messages as m

__all__ = ["FrameDecoder", "ProtocolViolation", "encode", "new_nonce"]

_MAX_DEPTH = 12
_MAX_MATCHES = 10_000
_MAX_CONTEXTS = 10_000


def new_nonce() -> str:
    """128 random bits; a run's frames carry it back."""
    return secrets.token_hex(16)


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ForkFacts:
    """What a fork is told about itself.

    Args:
        seed: at least :data:`~prong.guest.messages.MIN_SEED` random bytes, never used for another fork.
        generation: its generation id.
        info: facts for ``prong.info()``.
    """

    seed: bytes
    generation: str = ""
    info: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.seed) < m.MIN_SEED:
            raise InvalidInput(f"a fork seed has at least {m.MIN_SEED} bytes", data={"field": "seed"})

    def fields(self) -> dict[str, Json]:
        """As the request carries them."""
        return {"seed": self.seed.hex(), "generation": self.generation, "info": dict(self.info)}


@dataclass(frozen=True, slots=True)
class Run:
    """Run code; see the table for the fields. ``fork`` keeps the fork contract first, in the same round trip."""

    kind: ClassVar[str] = m.RUN
    id: int
    code: str | None
    mode: str = m.MODE_CELL
    nonce: str = field(default_factory=new_nonce)
    context: str | None = None
    env: Mapping[str, str | None] | None = None
    cwd: str | None = None
    argv: tuple[str, ...] | None = None
    filename: str | None = None
    display_limit: int | None = None
    announce: bool = False
    fork: ForkFacts | None = None

    def __post_init__(self) -> None:
        if self.mode not in m.MODES:
            raise InvalidInput(f"unknown mode {self.mode!r}", hint=f"one of {', '.join(m.MODES)}")
        needed = "filename" if self.mode == m.MODE_FILE else "code"
        if getattr(self, needed) is None:
            raise InvalidInput(f"mode {self.mode} needs {needed}", data={"field": needed})

    def fields(self) -> dict[str, Json]:
        """As the request carries them; what is not asked for is left out."""
        optional: dict[str, Json] = {
            "context": self.context,
            "code": self.code,
            "env": None if self.env is None else dict(self.env),
            "cwd": self.cwd,
            "argv": None if self.argv is None else list(self.argv),
            "filename": self.filename,
            "display_limit": self.display_limit,
            "announce": self.announce or None,
            "fork": None if self.fork is None else self.fork.fields(),
        }
        asked = {name: value for name, value in optional.items() if value is not None}
        return {"nonce": self.nonce, "mode": self.mode, **asked}


@dataclass(frozen=True, slots=True)
class Fork:
    """Keep the fork contract while idle."""

    kind: ClassVar[str] = m.FORK
    id: int
    facts: ForkFacts

    def fields(self) -> dict[str, Json]:
        """As the request carries them."""
        return self.facts.fields()


@dataclass(frozen=True, slots=True)
class Contexts:
    """Work on contexts: ``op`` is create, list, remove or reset; the answer lists all that exist then."""

    kind: ClassVar[str] = m.CONTEXTS
    id: int
    op: str = "list"
    name: str | None = None
    cwd: str | None = None

    def fields(self) -> dict[str, Json]:
        """As the request carries them."""
        return {"op": self.op, "name": self.name, "cwd": self.cwd}


@dataclass(frozen=True, slots=True)
class Complete:
    """Tab completion: what fits before ``cursor`` (characters) in ``code``."""

    kind: ClassVar[str] = m.COMPLETE
    id: int
    code: str
    cursor: int
    context: str | None = None

    def fields(self) -> dict[str, Json]:
        """As the request carries them."""
        return {"code": self.code, "cursor": self.cursor, "context": self.context}


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    kind: ClassVar[str] = m.PING
    id: int

    def fields(self) -> dict[str, Json]:
        """None."""
        return {}


Request = Run | Fork | Contexts | Complete | Ping


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


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """Warmed and idle: the moment to snapshot."""

    python: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WarmFailed:
    """The warm-up file raised; the runtime is gone."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Started:
    """A run that asked to be announced begins."""

    id: int
    nonce: str
    execution_count: int


@dataclass(frozen=True, slots=True)
class Display:
    """A value was shown; ``id`` is None when no run was active."""

    id: int | None
    result: Result


@dataclass(frozen=True, slots=True)
class MainResult:
    """The value of a cell's last expression."""

    id: int
    nonce: str
    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """What a run raised."""

    id: int
    nonce: str
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run."""

    id: int
    nonce: str
    exit_code: int
    execution_count: int


@dataclass(frozen=True, slots=True)
class Forked:
    """The fork contract was kept, or ``error`` says why not; ``id`` is None for a live fork."""

    id: int | None
    error: ErrorInfo | None

    @property
    def ok(self) -> bool:
        """Whether it was kept."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """One context."""

    name: str
    execution_count: int
    cwd: str | None


@dataclass(frozen=True, slots=True)
class ContextList:
    """All contexts, after the operation."""

    id: int
    contexts: tuple[ContextInfo, ...]


@dataclass(frozen=True, slots=True)
class Completed:
    """Completions for ``code[start:end]``."""

    id: int
    matches: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Here."""

    id: int


@dataclass(frozen=True, slots=True)
class InterruptIgnored:
    """A SIGINT found no run; if the run you meant is later than ``last_id``, send it again."""

    last_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was not carried out."""

    id: int | None
    code: str
    message: str


GuestMessage = (
    Ready
    | WarmFailed
    | Started
    | Display
    | MainResult
    | Failed
    | Finished
    | Forked
    | ContextList
    | Completed
    | Pong
    | InterruptIgnored
    | Refused
)


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
    m.COMPLETED: lambda r: Completed(
        r.whole("id"), r.texts("matches", _MAX_MATCHES), r.whole("start"), r.whole("end")
    ),
    m.PONG: lambda r: Pong(r.whole("id")),
    m.INTERRUPT_IGNORED: lambda r: InterruptIgnored(r.whole("last_id")),
    m.REFUSED: _refused,
}


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large")
    return value


def _brackets_too_deep(body: bytes) -> bool:
    """Whether the body can be nested deeper than any frame is. A bound from above that no nesting escapes."""
    depth = 0
    # Outside strings only: text between unescaped quotes is skipped, escapes first.
    outside = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    for piece in outside:
        for byte in piece:
            if byte in b"[{":
                depth += 1
                if depth > _MAX_DEPTH:
                    return True
            elif byte in b"]}":
                depth -= 1
    return False


def parse(body: bytes) -> GuestMessage:
    """One frame's JSON as an event. Raises ProtocolViolation."""
    if _brackets_too_deep(body):
        raise ProtocolViolation("a frame is nested deeper than the protocol ever is")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_not_json, parse_float=_finite)
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
