"""``scripts/reference``: the generated pages of docs/reference, from the command line, docstrings and constants."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.docs.blocks import REPOSITORY
from tests.docs.reference_cli import cli_page
from tests.docs.reference_errors import errors_page
from tests.docs.reference_limits import limits_page
from tests.docs.reference_python import python_page

FOLDER = REPOSITORY / "docs" / "reference"
HEADER = "<!-- Made by scripts/reference from the source; change that, then run it again. -->\n\n"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "python.md": python_page,
    "errors.md": errors_page,
    "limits.md": limits_page,
}


def wanted() -> dict[str, str]:
    """File name → the whole page as it should be."""
    return {name: HEADER + page().rstrip("\n") + "\n" for name, page in PAGES.items()}


def stale() -> list[str]:
    """The pages that are not as they should be."""
    found = []
    for name, text in wanted().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"docs/reference/{name}")
    return found


def main(words: list[str]) -> int:
    """Write the pages, or with ``--check`` name those that are stale; returns the exit status."""
    if words == ["--check"]:
        for name in (found := stale()):
            print(f"{name} is stale: run scripts/reference", file=sys.stderr)
        return 1 if found else 0
    if words:
        print("usage: scripts/reference [--check]", file=sys.stderr)
        return 2
    for name, text in wanted().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
