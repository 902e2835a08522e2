"""Reading hostile JSON field by field: every value is checked for its type and range before anything uses it."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Never

from prong.cell.results import ErrorInfo, Result, SyntaxPlace, TraceFrame
from prong.errors import Json, ProngError
from prong.guest import messages as m

MAX_COUNT = 2**53
_MAX_FRAMES = 1000
_MAX_FORMS = 100
_MAX_DATA_DEPTH = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


class ProtocolViolation(ProngError):
    """Bytes from inside a cell break the runtime's protocol. End the sandbox: its runtime is not in charge there."""

    default_code: ClassVar[str] = "runtime_violation"


def nesting(body: bytes) -> int:
    """The deepest nesting of brackets outside strings, for valid JSON; anything for what is not JSON."""
    depth = deepest = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _not_json(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large")
    return value


def load_json(body: bytes, most_nesting: int) -> object:
    """Parse strictly (RFC 8259: no NaN, no overflow). Raises ValueError or RecursionError."""
    # Counting all brackets, also those in strings, is a bound that spares most frames the exact look.
    if body.count(b"[") + body.count(b"{") > most_nesting and nesting(body) > most_nesting:
        raise ValueError(f"nested deeper than {most_nesting}")
    value: object = json.loads(body.decode("utf-8"), parse_constant=_not_json, parse_float=_finite)
    return value


def clean(text: str) -> str:
    """The text with each lone surrogate as U+FFFD, so that it can be encoded and printed anywhere."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _clean_json(value: Any) -> Json:  # what json.loads gives
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_json(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): _clean_json(item) for name, item in value.items()}
    scalar: Json = value
    return scalar


class Reader:
    """One JSON object of a frame, read field by field; each method raises :class:`ProtocolViolation`.

    Args:
        where: the frame's type and the path in it, for messages.
        fields: the object; fields nobody asks for are ignored, so that a newer runtime may add some.
    """

    def __init__(self, where: str, fields: dict[str, object]) -> None:
        self._where = where
        self._fields = fields

    def reject(self, problem: str) -> Never:
        """Raise for the whole object."""
        raise ProtocolViolation(f"a runtime frame is wrong: {self._where} {problem}")

    def _reject_field(self, name: str, wanted: str) -> Never:
        found = type(self._fields.get(name)).__name__
        self.reject(f"has no proper {name}: expected {wanted}, got {found}")

    def text(self, name: str) -> str:
        """A text."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            self._reject_field(name, "text")
        return clean(value)

    def optional_text(self, name: str) -> str | None:
        """A text or null."""
        return None if self._fields.get(name) is None else self.text(name)

    def whole(self, name: str, most: int = MAX_COUNT) -> int:
        """A whole number from 0 to ``most``."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value <= most:
            self._reject_field(name, f"a whole number up to {most}")
        return value

    def optional_whole(self, name: str) -> int | None:
        """A whole number or null."""
        return None if self._fields.get(name) is None else self.whole(name)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            self._reject_field(name, "true or false")
        return value

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """One of some texts."""
        value = self.text(name)
        if value not in choices:
            self._reject_field(name, f"one of {', '.join(choices)}")
        return value

    def _list(self, name: str, most: int) -> list[object]:
        value = self._fields.get(name)
        if not isinstance(value, list) or len(value) > most:
            self._reject_field(name, f"a list of at most {most}")
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name, most)
        if not all(isinstance(value, str) for value in values):
            self._reject_field(name, "a list of texts")
        return tuple(clean(str(value)) for value in values)

    def child(self, name: str) -> Reader:
        """An object."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            self._reject_field(name, "an object")
        return Reader(f"{self._where}.{name}", value)

    def optional_child(self, name: str) -> Reader | None:
        """An object or null."""
        return None if self._fields.get(name) is None else self.child(name)

    def children(self, name: str, most: int) -> list[Reader]:
        """A list of objects."""
        readers = []
        for value in self._list(name, most):
            if not isinstance(value, dict):
                self._reject_field(name, "a list of objects")
            readers.append(Reader(f"{self._where}.{name}", value))
        return readers

    def text_map(self, name: str, most: int) -> dict[str, str]:
        """An object whose values are texts; empty when missing."""
        child = self.optional_child(name)
        if child is None:
            return {}
        if len(child._fields) > most:
            self._reject_field(name, f"an object of at most {most}")
        return {clean(key): child.text(key) for key in child._fields}

    def json_map(self, name: str) -> Mapping[str, Json]:
        """An object with any values; empty when missing."""
        child = self.optional_child(name)
        return {} if child is None else {clean(key): _clean_json(value) for key, value in child._fields.items()}


def parse_error(r: Reader) -> ErrorInfo:
    """An error object."""
    frames = tuple(
        TraceFrame(frame.text("file"), frame.whole("line"), frame.text("function"), frame.text("source"))
        for frame in r.children("traceback", _MAX_FRAMES)
    )
    place = r.optional_child("syntax")
    return ErrorInfo(
        name=r.text("name"),
        value=r.text("value"),
        traceback=frames,
        formatted=r.text("formatted"),
        syntax=None if place is None else _parse_place(place),
    )


def _parse_place(r: Reader) -> SyntaxPlace:
    return SyntaxPlace(
        file=r.optional_text("file"),
        line=r.optional_whole("line"),
        column=r.optional_whole("column"),
        end_line=r.optional_whole("end_line"),
        end_column=r.optional_whole("end_column"),
        text=r.optional_text("text"),
    )


def _take_json(forms: dict[str, str], mime: str, omitted: dict[str, str]) -> Json:
    """Parse a form carried as JSON text; what cannot be read is omitted, for a user's data may well be too deep."""
    text = forms.pop(mime, None)
    if text is None:
        return None
    try:
        return _clean_json(load_json(text.encode("utf-8"), _MAX_DATA_DEPTH))
    except (ValueError, RecursionError) as error:
        omitted[mime] = f"not readable as JSON: {error}"[:200]
        return None


def parse_bundle(r: Reader, *, is_main: bool) -> Result:
    """A bundle as a result."""
    r.child("data")  # unlike the other maps it may not be missing
    forms = r.text_map("data", _MAX_FORMS)
    omitted = r.text_map("omitted", _MAX_FORMS)
    png = forms.pop(m.PNG_MIME, None)
    if png is not None:
        try:
            binascii.a2b_base64(png.encode("utf-8"), strict_mode=True)
        except binascii.Error as error:
            omitted[m.PNG_MIME] = f"not base64: {error}"
            png = None
    return Result(
        json=_take_json(forms, m.JSON_MIME, omitted),
        data=_take_json(forms, m.DATA_MIME, omitted),
        png=png,
        text=forms.pop(m.TEXT_MIME, None),
        html=forms.pop(m.HTML_MIME, None),
        markdown=forms.pop(m.MARKDOWN_MIME, None),
        svg=forms.pop(m.SVG_MIME, None),
        latex=forms.pop(m.LATEX_MIME, None),
        extra=forms,
        omitted=omitted,
        metadata=r.json_map("metadata"),
        is_main=is_main,
    )
