"""Results, limits and refusals as a person sees them, and the statuses programs see."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from prong.cell.engine.ending import Ending
from prong.cell.results import Execution, LimitHit, Refused, Result
from prong.cli.output import Output
from prong.cli.report import exit_status, limit_text, report_run
from prong.cli.results import ResultView
from prong.cli.run import Source, find_source
from prong.errors import NotFound
from tests.cli.fakes import FakeCell

FRAME = """<div><style scoped>.x {color: red}</style><table border="1" class="dataframe"><thead><tr><th></th><th>a</th>
<th>b &amp; c</th></tr></thead><tbody><tr><th>0</th><td>1</td><td>x\x1b[2J</td></tr><tr><th>1</th><td>2</td><td>[red]</td>
</tr></tbody></table></div>"""


def shown(result: Result, folder: Path | None = None) -> str:
    out = io.StringIO()
    ResultView(folder).show(result, Console(file=out, width=100))
    return out.getvalue()


def test_text_is_made_harmless() -> None:
    assert shown(Result(text="'\x1b[31m'\n[bold]")) == "'\\x1b[31m'\n[bold]\n"


def test_a_table_of_html_is_a_table() -> None:
    lines = shown(Result(html=FRAME, text="a b")).splitlines()
    assert [line.split() for line in lines] == [["a", "b", "&", "c"], ["0", "1", "x\\x1b[2J"], ["1", "2", "[red]"]]


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = "".join(f"<tr><td>{i}</td></tr>" for i in range(100))
    text = shown(Result(html=f"<table><tr><th>n</th></tr>{rows}</table>"))
    assert "… 40 more" in text and "59" in text and "\n60" not in text


@pytest.mark.parametrize(
    "html", ["<table>", "<tr><td>x", "<table><tr></table>", "</td></table>", "<td>a", "<p>only <b>text</b>"]
)
def test_broken_html_is_still_shown(html: str) -> None:
    assert "fallback" in shown(Result(html=html, text="fallback"))


def test_html_alone_is_shown_as_its_text() -> None:
    assert shown(Result(html="<p>only <b>text</b><script>no()</script></p>")) == "only text\n"


def test_pictures_become_files(tmp_path: Path) -> None:
    view, out = ResultView(tmp_path), io.StringIO()
    console = Console(file=out, width=200)
    view.show(Result(png=base64.b64encode(b"PNG bytes").decode(), text="<Figure>"), console)
    view.show(Result(svg="<svg/>"), console)
    assert (tmp_path / "1.png").read_bytes() == b"PNG bytes" and (tmp_path / "2.svg").read_text() == "<svg/>"
    assert f"png saved to {tmp_path}/1.png" in out.getvalue() and "Figure" not in out.getvalue()


def test_what_was_left_out_is_said() -> None:
    assert "image/png left out: too large" in shown(Result(text="x", omitted={"image/png": "too large"}))


def execution(**fields: Any) -> Execution:
    return Execution(
        **{"stdout": "", "stderr": "", "results": (), "error": None, "exit_code": 0, "execution_count": 0, **fields}
    )


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 0), ({"exit_code": 7}, 7), ({"exit_code": 130, "limit": LimitHit("wall", 2)}, 124),
        ({"limit": LimitHit("cpu", 2)}, 152), ({"limit": LimitHit("output", 9)}, 153),
        ({"exit_code": 1, "limit": LimitHit("memory", 9)}, 1), ({"exit_code": 137, "ended": "killed"}, 137),
    ],
)  # fmt: skip
def test_statuses(fields: dict[str, Any], status: int) -> None:
    assert exit_status(execution(**fields)) == status


@pytest.mark.parametrize(
    ("hit", "text"),
    [
        (LimitHit("wall", 2.5), "wall limit of 2.5 s reached"),
        (LimitHit("memory", 268435456), "memory limit of 256M reached"),
        (LimitHit("threads", 256), "threads limit of 256 reached"),
    ],
)
def test_limits_in_words(hit: LimitHit, text: str) -> None:
    assert limit_text(hit) == text


def reported(capsys: pytest.CaptureFixture[str], cell: FakeCell, done: Execution, *, json: bool = False) -> str:
    report_run(Output(json), cast(Any, cell), done)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_what_the_program_did_not_say(capsys: pytest.CaptureFixture[str]) -> None:
    cell = FakeCell()
    cell.ended = Ending(None, 9, "memory limit reached", "memory", {})
    refused = Refused("process", "fork", "", "use a machine")
    done = execution(limit=LimitHit("wall", 1), ended="killed by SIGKILL: \x1b[2J", refused=(refused, refused))
    text = reported(capsys, cell, done)
    assert text.splitlines() == [
        "stopped: wall limit of 1 s reached", "ended: killed by SIGKILL: \\x1b[2J", "refused: fork: use a machine",
    ]  # fmt: skip
    assert reported(capsys, cell, done, json=True) == ""


def test_an_exit_of_its_own_is_not_news(capsys: pytest.CaptureFixture[str]) -> None:
    cell = FakeCell()
    cell.ended = Ending(3, None, "", "", {})
    assert reported(capsys, cell, execution(exit_code=3, ended="exited with code 3")) == ""


def test_code_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.py").write_text("1")
    Path("noext").write_text("1")
    assert find_source("job.py", ("a",)) == Source(None, Path("job.py"), ("job.py", "a"))
    assert find_source("noext", ()).path == Path("noext")
    assert find_source(str(tmp_path / "job.py"), ()).argv == ("job.py",)
    assert find_source("print(1)", ("a",)) == Source("print(1)", None, ("-c", "a"))
    assert find_source("x\n" * 5000, ()).path is None
    assert find_source("import a.py as b  # odd.py", ()).path is None
    for word in ("other.py", "dir/other.py"):
        with pytest.raises(NotFound):
            find_source(word, ())
    monkeypatch.setattr("sys.stdin", io.StringIO("print(2)"))
    source = find_source("-", ())
    assert source == Source("print(2)", None, ("-",)) and not source.reads_stdin
