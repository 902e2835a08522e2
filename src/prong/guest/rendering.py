"""From a Python value to a bundle: its text and whatever richer forms it, or we, know how to give."""

from __future__ import annotations

import sys
from binascii import b2a_base64
from json import JSONEncoder
from typing import Any

from . import messages as m

# IPython's display protocol: https://ipython.readthedocs.io/en/stable/config/integrating.html
_METHODS = (
    ("_repr_html_", m.HTML_MIME),
    ("_repr_markdown_", m.MARKDOWN_MIME),
    ("_repr_svg_", m.SVG_MIME),
    ("_repr_png_", m.PNG_MIME),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_pdf_", "application/pdf"),
    ("_repr_latex_", m.LATEX_MIME),
    ("_repr_json_", m.JSON_MIME),
    ("_repr_javascript_", "application/javascript"),
)
_CANARY = "_ipython_canary_method_should_not_exist_"
_PLAIN = frozenset({int, float, complex, bool, str, bytes, bytearray, list, tuple, dict, set, frozenset, range})
_TABLE_CELLS = 100_000
_MOST_FORMS = 40
_MOST_METADATA = 20
_LONGEST_MIME = 200
_encode_json = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Bundle:
    """One value's forms, within a size limit.

    Args:
        limit: bytes one form may have: text is cut there, any other form is left out and ``omitted`` says so.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = m.MAX_BUNDLE
        self.data: dict[str, str] = {}
        self.omitted: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}

    def add_text(self, text: str) -> None:
        """Add the plain form, cut at the limit."""
        limit = min(self._limit, self._room)
        # JSON needs at most 6 bytes for a character (a control character as \\u00XX).
        if len(text) > limit or (len(text) * 6 > limit and _encoded_size(text) > limit):
            kept = min(len(text), limit // 6)
            text = f"{text[:kept]}… [{len(text) - kept} more characters]"
        self.data[m.TEXT_MIME] = text
        self._room -= _encoded_size(text)

    def add(self, mime: str, value: object) -> None:
        """Add a rich form: text, bytes (sent as base64) or, for JSON, the value itself."""
        if len(mime) > _LONGEST_MIME or len(self.data) + len(self.omitted) >= _MOST_FORMS:
            return  # no viewer knows such a form
        if mime.endswith("json") and mime != m.DATA_MIME:
            value = _encode_json(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            value = b2a_base64(value, newline=False).decode("ascii")
        if not isinstance(value, str):
            self.omitted[mime] = f"expected text or bytes, not {type(value).__name__}"
            return
        size = _encoded_size(value)
        if size > min(self._limit, self._room):
            self.omitted[mime] = f"{size} bytes, more than allowed"
            return
        self.data[mime] = value
        self._room -= size

    def failed(self, mime: str, error: Exception) -> None:
        """Record that user code that was to give this form raised."""
        self.omitted[mime] = describe_briefly(error)

    def as_json(self) -> dict[str, Any]:
        """The ``bundle`` of an event."""
        bundle: dict[str, Any] = {"data": self.data}
        if self.omitted:
            bundle["omitted"] = self.omitted
        if self.metadata:
            bundle["metadata"] = self.metadata
        return bundle


def _encoded_size(text: str) -> int:
    """Bytes the text takes in a frame (quotes left out); never an error, whatever the characters."""
    return len(_encode_json(text).encode("utf-8", "backslashreplace")) - 2


def describe_briefly(error: BaseException) -> str:
    """``Name: message`` in at most 500 characters, even when the message itself cannot be had."""
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001  # user code: anything may be raised in a user's __str__
        message = f"<its __str__ raised {type(second).__name__}>"
    return f"{type(error).__name__}: {message}"[:500]


def safe_repr(value: object) -> tuple[str, str | None]:
    """The repr, and None or what it raised; then the text is a stand-in. KeyboardInterrupt passes."""
    try:
        return repr(value), None
    except Exception as error:  # noqa: BLE001  # user code: anything may be raised in a user's __repr__
        return f"<{type(value).__name__} object; its repr raised {type(error).__name__}>", describe_briefly(error)


def render(value: object, limit: int) -> dict[str, Any]:
    """The bundle of a value. Runs user code (its ``_repr_*_`` methods): call it under a guard."""
    bundle = Bundle(limit)
    text, problem = safe_repr(value)
    bundle.add_text(text)
    if problem is not None:
        bundle.omitted[m.TEXT_MIME] = problem
    if type(value) not in _PLAIN and not isinstance(value, type):
        _add_rich_forms(bundle, value)
    return bundle.as_json()


def _add_rich_forms(bundle: Bundle, value: object) -> None:
    _add_mimebundle(bundle, value)
    if not hasattr(value, _CANARY):  # a mock that has every attribute has none of these on purpose
        for name, mime in _METHODS:
            if mime not in bundle.data or mime == m.TEXT_MIME:
                _add_form(bundle, value, name, mime)
    _add_table(bundle, value)


def _add_mimebundle(bundle: Bundle, value: object) -> None:
    try:
        method = getattr(value, "_repr_mimebundle_", None)
        if method is None or hasattr(value, _CANARY):
            return
        forms = method(include=None, exclude=None)
        if isinstance(forms, tuple):
            forms = forms[0]
        for mime, form in dict(forms or {}).items():
            if mime == m.TEXT_MIME:
                bundle.add_text(str(form))
            else:
                bundle.add(str(mime), form)
    except NotImplementedError:
        return  # the protocol's way of saying "not this time"
    except Exception as error:  # noqa: BLE001  # user code
        bundle.failed("mimebundle", error)


def _add_form(bundle: Bundle, value: object, name: str, mime: str) -> None:
    try:
        method = getattr(value, name, None)
        if method is None:
            return
        form = method()
        if isinstance(form, tuple) and len(form) == 2:
            form, metadata = form
            entries = list(dict(metadata).items())[:_MOST_METADATA]
            bundle.metadata[mime] = {str(key)[:100]: str(entry)[:1000] for key, entry in entries}
        if form is not None:
            bundle.add(mime, form)
    except NotImplementedError:
        return  # the protocol's way of saying "not this time"
    except Exception as error:  # noqa: BLE001  # user code
        bundle.failed(mime, error)


def _add_table(bundle: Bundle, value: object) -> None:
    """A pandas DataFrame or Series also as data: ``{column: [values]}``, the first rows if it is long."""
    pandas = sys.modules.get("pandas")
    try:
        if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
            return
        frame = value.to_frame() if isinstance(value, pandas.Series) else value
        shown = frame.head(max(1, _TABLE_CELLS // max(1, len(frame.columns))))
        columns = [
            _encode_json(str(name)) + ":" + shown.iloc[:, position].to_json(orient="values", date_format="iso")
            for position, name in enumerate(shown.columns)
        ]
        bundle.add(m.DATA_MIME, "{" + ",".join(columns) + "}")
        bundle.metadata[m.DATA_MIME] = {"rows": len(frame), "rows_shown": len(shown)}
    except Exception as error:  # noqa: BLE001  # user code: columns may hold anything
        bundle.failed(m.DATA_MIME, error)


def render_display(value: object, raw: bool, limit: int) -> dict[str, Any]:
    """The bundle for ``display(value, raw=raw)``: with raw, ``value`` is itself ``{mime: form}``."""
    if not raw:
        return render(value, limit)
    bundle = Bundle(limit)
    for mime, form in dict(value).items():  # type: ignore[call-overload]  # TypeError is the user's own mistake
        if mime == m.TEXT_MIME:
            bundle.add_text(str(form))
        else:
            bundle.add(str(mime), form)
    return bundle.as_json()
