"""The fenced blocks of a Markdown page, and what the page expects of them.

Rules for pages:

- ``python`` blocks of one page run in order in one namespace, which begins with ``engine`` (an ``Engine``), ``template``
  (its default template) and ``cell`` (a fresh fork). A ``text`` block straight after one is what it prints.
- ``console`` blocks run each line after ``$ `` with bash, in an empty directory that the page keeps; lines up to the
  end of a here-document, and after a trailing backslash, belong to the command. The lines after it are what it prints,
  stderr included. A command must end with status 0, so one that should fail is followed by ``; echo "status $?"``.
- A bare ``$ prong repl`` opens a session; lines after a prompt (``c1 >>> ``) are its inputs, in later blocks too, until
  the next ``$ ``. An id that a page shows (``snapshot 3snu…``) stands for the one it got, also where it is used again.
- Files a page's commands read are in ``tests/docs/files/<page>/``, with ``.txt`` after their names.
- ``sh`` blocks run whole, with ``bash -eu``.
- In expected output ``…`` stands for any text of a line, a line of only ``…`` for any lines, and what cannot be the same
  twice (times, sizes, ids, made-up names) may differ; see :func:`pattern`.
- ``<!-- needs image: NAME -->`` on the line before a block: it is run where that image is built.
- ``<!-- not run: REASON -->`` on the line before a block exempts it; REASON begins with one of :data:`REASONS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
RUN = ("python", "console", "sh")
REASONS = ("needs root", "needs the network", "takes minutes", "sets up the checkout", "depends on the host", "an outline")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>.+?) -->\s*$")
_PROMPT = re.compile(r"^c\d+ >>> ")
_REPL = re.compile(r"prong repl( --[\w-]+ [^|<>&;]+)*$")
_NEEDS = re.compile(r"^\s*<!-- needs image: (?P<image>\w+) -->\s*$")
_HERE = re.compile(r"<<-?\s*'?(?P<word>\w+)'?")

SNAPSHOT = r"\b[a-z2-7]{26}\b"
"""A snapshot's id."""
_VOLATILE = (
    (r"\d[\d,.]* ?(?:ms|µs|s|ns|KiB|MiB|GiB|KB|MB|GB|[KMG])\b", r"\d[\d,.]* ?(?:ms|µs|s|ns|KiB|MiB|GiB|KB|MB|GB|[KMG])\b"),
    (SNAPSHOT, r"[a-z2-7]{26}"),
    (r"\bcell-[0-9a-f]{8}\b", r"cell-[0-9a-f]{8}"),
    (r"\b[0-9a-f]{12}\b", r"[0-9a-f]{12}"),  # an image's digest, cut short
    (r"\b[0-9a-f]{32,64}\b", r"[0-9a-f]{32,64}"),
    (r"\b0x[0-9a-f]{6,16}\b", r"0x[0-9a-f]+"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?", r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?"),
    (r"\b\d\.\d{5,}\b", r"\d\.\d+(?:e-\d+)?"),  # a random number
)
_PARTS = re.compile("|".join(f"(?P<v{i}>{written})" for i, (written, _) in enumerate(_VOLATILE)) + "|(?P<any>…)")


@dataclass(frozen=True)
class Block:
    """One fenced block: the line its first line of text is on, its language, its text, why it is not run, if so.

    ``needs``: the image it is for, if not the default one. ``after``: how many lines lie between it and the block
    before; 1 for one straight after.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    needs: str = ""
    after: int = 1 << 30

    @property
    def place(self) -> str:
        """``page:line``, as editors jump to it."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a console block and the output shown under it (None: nothing is shown, nothing is compared).

    ``kind``: shell, repl (opens a session) or input (a line of the open session).
    """

    line: int
    text: str
    expected: str | None
    kind: str = "shell"


def pages() -> list[Path]:
    """README.md and everything below docs/."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    name = str(page.relative_to(REPOSITORY))
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    reason, needs, at, previous_end = "", "", 0, -(1 << 30)
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.match(line)
        if fence is None:
            note = _NOT_RUN.match(line)
            image = _NEEDS.match(line)
            reason = note["reason"] if note else "" if line.strip() else reason
            needs = image["image"] if image else "" if line.strip() else needs
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end].strip() != "```":
            end += 1
        body = "\n".join(text.removeprefix(fence["indent"]) for text in lines[at + 1 : end])
        found.append(Block(name, at + 2, fence["language"], body, reason, needs, at - previous_end - 1))
        reason, needs, previous_end, at = "", "", end, end + 1
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a console block. Raises ValueError for one that does not begin with a command."""
    lines = block.text.splitlines()
    found: list[Command] = []
    at = 0
    while at < len(lines):
        start, kind, text, at = at, *_command(block, lines, at)
        output = []
        while at < len(lines) and not _begins(lines[at]):
            output.append(lines[at])
            at += 1
        shown = "\n".join(output).strip("\n")
        found.append(Command(block.line + start, text, shown or None, kind))
    return found


def _begins(line: str) -> bool:
    return line.startswith("$ ") or _PROMPT.match(line) is not None


def _command(block: Block, lines: list[str], at: int) -> tuple[str, str, int]:
    """The command that begins on line ``at``: its kind, its text, the line after it."""
    prompt = _PROMPT.match(lines[at])
    if prompt:
        return "input", lines[at][prompt.end() :], at + 1
    if not lines[at].startswith("$ "):
        raise ValueError(f"{block.page}:{block.line + at}: output without a command: {lines[at]!r}")
    command = [lines[at].removeprefix("$ ")]
    here = _HERE.search(command[0])
    while (here and lines[at].strip() != here["word"]) or (not here and lines[at].endswith("\\")):
        at += 1
        command.append(lines[at])
    text = "\n".join(command)
    bare = text.partition(" #")[0].strip()
    return "repl" if _REPL.fullmatch(bare) else "shell", text, at + 1


def pattern(expected: str) -> re.Pattern[str]:
    """What output must match entirely, trailing blanks aside, to be what a page shows."""
    parts: list[str] = []
    for line in expected.strip("\n").splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
            continue
        parts.append(_line(line.rstrip()) + r"[ ]*\n")
    return re.compile("".join(parts))


def _line(line: str) -> str:
    out, at = [], 0
    for match in _PARTS.finditer(line):
        out.append(_spaces(line[at : match.start()]))
        group = match.lastgroup or ""
        out.append(r".*" if group == "any" else _VOLATILE[int(group[1:])][1])
        at = match.end()
    out.append(_spaces(line[at:]))
    return "".join(out)


def _spaces(text: str) -> str:
    """Literal text; columns of a table may be wider than shown."""
    return re.sub(r"(?:\\ ){2,}", r"[ ]{2,}", re.escape(text))


def same(expected: str, output: str) -> bool:
    """Whether ``output`` is what a page shows."""
    return pattern(expected).fullmatch(output.strip("\n") + "\n") is not None
