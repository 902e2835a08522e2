"""The messages of the Python runtime's control stream as typed values: requests it is sent, events it sends.

The wire form of each is in the table of :mod:`prong.guest.messages`; :mod:`prong.cell.runtime_protocol` converts.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from prong.cell.results import ErrorInfo, Result
from prong.errors import InvalidInput, Json
from prong.guest import messages as m


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
    own_input: bool = False
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
            "own_input": self.own_input or None,
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
