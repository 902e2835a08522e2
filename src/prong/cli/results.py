"""Showing the rich results of code on a terminal: tables as tables, pictures as files, the rest as text."""

from __future__ import annotations

import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prong.cli.output import printable

if TYPE_CHECKING:
    from prong.cell.results import Result

MOST_ROWS = 60
MOST_COLUMNS = 40


class ResultView:
    """Shows results; pictures go to files in ``folder``, by default a new directory made for the first one."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._count = 0

    def show(self, result: Result, console: Console) -> None:
        """Print ``result`` in the form that suits a terminal best: picture, table, text, text of its HTML."""
        for form, data in (("png", result.png_bytes), ("svg", result.svg and result.svg.encode())):
            if data:
                console.print(Text(f"{form} saved to {self._save(data, form)}", style="dim"))
                return
        page = _parse(result.html)
        if page is not None and page.rows:
            console.print(_table(page.rows))
            return
        text = next((t for t in (result.text, result.markdown, result.latex, page and page.text) if t), None)
        if text:
            console.print(Text(printable(text)))
        for mime, reason in result.omitted.items():
            console.print(Text(printable(f"{mime} left out: {reason}"), style="dim"))

    def _save(self, data: bytes, suffix: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="prong-results-"))
        self._count += 1
        path = self._folder / f"{self._count}.{suffix}"
        path.write_bytes(data)
        return path


class _Page(HTMLParser):
    """The text of an HTML fragment, and the rows of its first table. Everything in it came from a sandbox."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[tuple[str, bool]]] = []
        self._text: list[str] = []
        self._cell: list[str] | None = None
        self._header = False
        self._hidden = 0
        self._tables = 0

    @property
    def text(self) -> str:
        """What a reader would see, white space folded."""
        return " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script"):
            self._hidden += 1
        elif tag == "table":
            self._tables += 1
        elif tag == "tr" and self._tables == 1:
            self.rows.append([])
        elif tag in ("td", "th") and self._tables == 1 and self.rows:
            self._cell, self._header = [], tag == "th"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._hidden = max(0, self._hidden - 1)
        elif tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append((" ".join("".join(self._cell).split()), self._header))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self._text.append(data)
        if self._cell is not None:
            self._cell.append(data)


def _parse(html: str | None) -> _Page | None:
    if not html:
        return None
    page = _Page()
    page.feed(html)
    page.close()
    page.rows = [row[:MOST_COLUMNS] for row in page.rows if row]
    return page


def _table(rows: list[list[tuple[str, bool]]]) -> Table:
    """Header rows (all ``th``) at the top become the header; cells that are ``th`` elsewhere (an index) are bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    width = max(len(row) for row in rows)
    body = list(rows)
    header = body.pop(0) if all(is_header for _, is_header in rows[0]) else []
    for at in range(width):
        name = header[at][0] if at < len(header) else ""
        table.add_column(Text(printable(name)), justify="right" if at else "left")
    for row in body[:MOST_ROWS]:
        table.add_row(*(Text(printable(text), style="bold" if is_header else "") for text, is_header in row))
    if len(body) > MOST_ROWS:
        table.add_row(Text(f"… {len(body) - MOST_ROWS} more", style="dim"))
    return table
