"""Rich results: every form, tables, figures, images, display from anywhere, size limits."""

from __future__ import annotations

import base64
import importlib.util

import pytest

from prong.cell.results import Result
from prong.guest.rendering import Bundle
from tests.guest.harness import GuestProcess

PNG = b"\x89PNG\r\n\x1a\n"


def main_result(runtime: GuestProcess, code: str) -> Result:
    """The main result of code that ends well."""
    execution = runtime.run(code)
    assert execution.ok, execution.error
    assert execution.result is not None
    return execution.result


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip where a library is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def test_all_forms(runtime: GuestProcess) -> None:
    result = main_result(
        runtime,
        "class All:\n"
        "    def __repr__(self): return 'all'\n"
        "    def _repr_html_(self): return '<b>é</b>'\n"
        "    def _repr_markdown_(self): return '**b**'\n"
        "    def _repr_svg_(self): return '<svg/>'\n"
        "    def _repr_png_(self): return b'\\x89PNG', {'width': 3}\n"
        "    def _repr_jpeg_(self): return None\n"
        "    def _repr_latex_(self): return '$x$'\n"
        "    def _repr_json_(self): return {'a': [1, None, 'é']}\n"
        "    def _repr_javascript_(self): return 'alert()'\n"
        "    def _repr_pdf_(self): raise NotImplementedError\n"
        "All()",
    )
    assert (result.text, result.html, result.markdown, result.svg) == ("all", "<b>é</b>", "**b**", "<svg/>")
    assert (result.png_bytes, result.latex, result.json) == (b"\x89PNG", "$x$", {"a": [1, None, "é"]})
    assert result.extra == {"application/javascript": "alert()"} and result.omitted == {}
    assert result.metadata == {"image/png": {"width": "3"}}
    assert result.is_main and result.to_json()["html"] == "<b>é</b>"
    assert result._repr_mimebundle_()["application/json"] == {"a": [1, None, "é"]}


def test_mimebundle_comes_first(runtime: GuestProcess) -> None:
    result = main_result(
        runtime,
        "class Both:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'text/plain': 'plain', 'text/html': 'bundle', 'x/y': 'z'}, {}\n"
        "    def _repr_html_(self): return 'method'\n"
        "Both()",
    )
    assert (result.text, result.html, result.extra) == ("plain", "bundle", {"x/y": "z"})


def test_classes_and_mocks_have_no_rich_forms(runtime: GuestProcess) -> None:
    result = main_result(runtime, "class C:\n    def _repr_html_(self): return 'h'\nC")
    assert result.html is None and result.omitted == {}
    result = main_result(runtime, "from unittest.mock import MagicMock\nMagicMock()")
    assert result.to_json().keys() == {"is_main", "text"}


def test_display_in_order_with_the_result(runtime: GuestProcess) -> None:
    execution = runtime.run("display(1, 'two')\ndisplay({'text/html': '<i>3</i>'}, raw=True)\n4")
    assert [(r.text, r.html, r.is_main) for r in execution.results] == [
        ("1", None, False),
        ("'two'", None, False),
        (None, "<i>3</i>", False),
        ("4", None, True),
    ]


def test_display_in_threads(runtime: GuestProcess) -> None:
    execution = runtime.run(
        "import threading\ndef show(i):\n    for j in range(50): display((i, j))\n"
        "ts = [threading.Thread(target=show, args=(i,)) for i in range(4)]\n"
        "for t in ts: t.start()\nfor t in ts: t.join()"
    )
    texts = [result.text for result in execution.results]
    assert sorted(texts, key=str) == sorted((f"({i}, {j})" for i in range(4) for j in range(50)), key=str)
    for thread in range(4):
        own = [text for text in texts if str(text).startswith(f"({thread},")]
        assert own == [f"({thread}, {j})" for j in range(50)]


def test_display_of_a_mistake_is_the_users_error(runtime: GuestProcess) -> None:
    error = runtime.run("display(5, raw=True)").error
    assert error is not None and error.name == "TypeError"
    assert [frame.function for frame in error.traceback] == ["<module>"]
    assert "prong_guest" not in error.formatted


@needs("pandas", "numpy")
def test_data_frame(runtime: GuestProcess) -> None:
    result = main_result(
        runtime,
        "import pandas as pd\n"
        "pd.DataFrame({'n': [1, 2], 'x': [0.5, float('nan')], 't': ['é', None], 'd': pd.to_datetime(['2024-01-02'] * 2)})",
    )
    assert result.html is not None and "<table" in result.html
    data = result.data
    assert isinstance(data, dict) and (data["n"], data["x"], data["t"]) == ([1, 2], [0.5, None], ["é", None])
    assert str(data["d"]).startswith("['2024-01-02T")
    result = main_result(runtime, "pd.Series([1, 2], name='s')")
    assert result.data == {"s": [1, 2]}
    result = main_result(runtime, "pd.DataFrame({'a': range(300_000)})")
    assert isinstance(result.data, dict) and isinstance(result.data["a"], list) and len(result.data["a"]) == 100_000
    assert list(result.metadata.values()) == [{"rows": 300_000, "rows_shown": 100_000}]


@needs("matplotlib")
def test_figures(runtime: GuestProcess) -> None:
    left_open = runtime.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);\nplt.figure()\nplt.plot([3]);")
    assert left_open.ok and left_open.stderr == ""
    images = [result.png_bytes or b"" for result in left_open.results]
    assert len(images) == 2 and all(image.startswith(PNG) for image in images)
    shown = runtime.run("plt.plot([1])\nplt.show()\nprint('after')")
    assert [r.png is not None for r in shown.results] == [True] and shown.stderr == "", shown
    value = runtime.run("fig, ax = plt.subplots()\nfig")
    assert [(r.is_main, r.png is not None) for r in value.results] == [(True, True)]
    failing = runtime.run("plt.plot([1])\n1 / 0")
    assert failing.exit_code == 1 and len(failing.results) == 1
    assert runtime.run("plt.get_fignums()").text == "[]"
    script = runtime.script("import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()")
    assert len(script.results) == 1 and script.exit_code == 0


@needs("PIL")
def test_images(runtime: GuestProcess) -> None:
    result = main_result(runtime, "from PIL import Image\nImage.new('RGB', (2, 2), 'red')")
    assert result.png_bytes is not None and result.png_bytes.startswith(PNG)


def test_bundle_limits() -> None:
    bundle = Bundle(limit=100)
    bundle.add_text("\x01" * 60)
    bundle.add("text/html", "h" * 101)
    bundle.add("image/png", b"x" * 74)
    bundle.add("image/jpeg", b"x" * 76)
    bundle.add("x/odd", 5)
    assert bundle.data["text/plain"].startswith("\x01" * 16 + "… [")
    assert base64.b64decode(bundle.data["image/png"]) == b"x" * 74
    assert bundle.omitted["text/html"] == "101 bytes, more than allowed"
    assert bundle.omitted["image/jpeg"].startswith("104 bytes") and "int" in bundle.omitted["x/odd"]


def test_many_large_forms_stay_within_a_frame(runtime: GuestProcess) -> None:
    result = main_result(
        runtime,
        "class Big:\n    def _repr_mimebundle_(self, **k): return {f'x/{i}': '\\x01' * 170_000 for i in range(30)}\nBig()",
    )
    assert 3 <= len(result.extra) <= 7 and len(result.omitted) >= 23
