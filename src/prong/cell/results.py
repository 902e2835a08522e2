"""What running code gave: output, rich results, the error, the exit code. Frozen, JSON-ready, shown by notebooks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from prong.errors import Json
from prong.guest import messages as m

_TEXT_FIELDS: tuple[tuple[str, str], ...] = (
    ("text", m.TEXT_MIME),
    ("html", m.HTML_MIME),
    ("markdown", m.MARKDOWN_MIME),
    ("svg", m.SVG_MIME),
    ("png", m.PNG_MIME),
    ("latex", m.LATEX_MIME),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One value shown by code, in every form it gave.

    Attributes:
        text: its ``repr``, perhaps cut.
        html, markdown, svg, latex: those forms, as text.
        png: base64 text; :attr:`png_bytes` for the image.
        json: what ``_repr_json_`` gave.
        data: a table as ``{column: [values]}`` (pandas), the first rows of a long one.
        extra: other forms by MIME type, as text (base64 where the type is binary).
        omitted: MIME type to the reason a form is missing (too large, or the code that makes it raised).
        metadata: what came with the forms, by MIME type.
        is_main: the value of a cell's last expression, rather than displayed on the way.
    """

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    latex: str | None = None
    json: Json = None
    data: Json = None
    extra: Mapping[str, str] = field(default_factory=dict)
    omitted: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    is_main: bool = False

    @property
    def png_bytes(self) -> bytes | None:
        """The PNG image itself."""
        return None if self.png is None else base64.b64decode(self.png)

    def to_json(self) -> dict[str, Json]:
        """Only the forms there are, and ``is_main``."""
        shown: dict[str, Json] = {"is_main": self.is_main}
        for name in (*(name for name, _ in _TEXT_FIELDS), "json", "data"):
            value: Json = getattr(self, name)
            if value is not None:
                shown[name] = value
        for name in ("extra", "omitted", "metadata"):
            if getattr(self, name):
                shown[name] = dict(getattr(self, name))
        return shown

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Json]:
        """IPython's protocol: a notebook shows this as it would show the value itself."""
        forms: dict[str, Json] = {mime: getattr(self, name) for name, mime in _TEXT_FIELDS if getattr(self, name)}
        if self.json is not None:
            forms[m.JSON_MIME] = self.json
        forms.update(self.extra)
        return forms

    def _repr_html_(self) -> str | None:
        return self.html

    def _repr_png_(self) -> bytes | None:
        return self.png_bytes

    def __str__(self) -> str:
        return self.text or ""


@dataclass(frozen=True, slots=True)
class TraceFrame:
    """One line of a traceback: where, in what function, and the source there (empty if unknown)."""

    file: str
    line: int
    function: str
    source: str

    def to_json(self) -> dict[str, Json]:
        """``{file, line, function, source}``."""
        return {"file": self.file, "line": self.line, "function": self.function, "source": self.source}


@dataclass(frozen=True, slots=True)
class SyntaxPlace:
    """Where a SyntaxError is: 1-based lines and columns, None where Python does not say."""

    file: str | None
    line: int | None
    column: int | None
    end_line: int | None
    end_column: int | None
    text: str | None

    def to_json(self) -> dict[str, Json]:
        """``{file, line, column, end_line, end_column, text}``."""
        return {name: getattr(self, name) for name in ("file", "line", "column", "end_line", "end_column", "text")}


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception that ended code.

    Attributes:
        name: its class.
        value: its message.
        traceback: its frames, outermost first; only the user's.
        formatted: the text Python prints, chained exceptions included.
        syntax: for a SyntaxError, where.
    """

    name: str
    value: str
    traceback: tuple[TraceFrame, ...]
    formatted: str
    syntax: SyntaxPlace | None = None

    def to_json(self) -> dict[str, Json]:
        """``{name, value, traceback, formatted, syntax?}``."""
        shown: dict[str, Json] = {
            "name": self.name,
            "value": self.value,
            "traceback": [frame.to_json() for frame in self.traceback],
            "formatted": self.formatted,
        }
        if self.syntax is not None:
            shown["syntax"] = self.syntax.to_json()
        return shown

    def __str__(self) -> str:
        return self.formatted


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit of the call that was reached: its name (wall, cpu, output, memory, overlay, threads) and value."""

    name: str
    allowed: float

    def to_json(self) -> dict[str, Json]:
        """Both."""
        return {"name": self.name, "allowed": self.allowed}


@dataclass(frozen=True, slots=True)
class Refused:
    """Something a cell refuses by design was tried: kind, system call, detail, and what to use instead."""

    kind: str
    call: str
    detail: str
    advice: str

    def to_json(self) -> dict[str, Json]:
        """All four."""
        return {"kind": self.kind, "call": self.call, "detail": self.detail, "advice": self.advice}


@dataclass(frozen=True, slots=True)
class Execution:
    """One finished run.

    Attributes:
        stdout, stderr: everything written there, as text; bytes that are not UTF-8 become U+FFFD.
        results: in the order they were shown; a cell's last expression has ``is_main``.
        error: the exception that ended it, or None.
        exit_code: 0 to 255, as a shell would see it.
        execution_count: the context's count; 0 for a program without a context.
        duration: seconds from request to end, measured outside.
        limit: the limit that was hit, or None.
        ended: how the whole sandbox ended during this run (exit, signal, fault, out of memory), or None: it goes on.
        refused: calls that a cell refuses by design, tried during this run.
    """

    stdout: str
    stderr: str
    results: tuple[Result, ...]
    error: ErrorInfo | None
    exit_code: int
    execution_count: int
    duration: float = 0.0
    limit: LimitHit | None = None
    ended: str | None = None
    refused: tuple[Refused, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.exit_code == 0 and self.error is None

    @property
    def result(self) -> Result | None:
        """The value of a cell's last expression."""
        return next((result for result in self.results if result.is_main), None)

    @property
    def text(self) -> str | None:
        """The plain form of :attr:`result`."""
        return None if self.result is None else self.result.text

    def with_duration(self, seconds: float) -> Execution:
        """The same, timed."""
        return replace(self, duration=seconds)

    def to_json(self) -> dict[str, Json]:
        """All of it."""
        return {
            "stdout": self.stdout,
            "stderr": self.stderr,
            "results": [result.to_json() for result in self.results],
            "error": None if self.error is None else self.error.to_json(),
            "exit_code": self.exit_code,
            "execution_count": self.execution_count,
            "duration": self.duration,
            "limit": None if self.limit is None else self.limit.to_json(),
            "ended": self.ended,
            "refused": [item.to_json() for item in self.refused],
        }

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Json]:
        """In a notebook: the main result if there is one, else the output and error as text."""
        if self.result is not None:
            return self.result._repr_mimebundle_()
        error = "" if self.error is None else self.error.formatted
        return {m.TEXT_MIME: self.stdout + self.stderr + (error if error not in self.stderr else "")}
