"""docs/reference/errors.md: every error class and code, from the classes and from where the source names a code."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import prong
from prong.cli.output import EXIT_ERROR, EXIT_INVALID
from tests.docs.reference_python import text
from tests.test_layers import error_classes

INTRODUCTION = f"""\
# Errors

Everything prong raises on purpose is a `prong.errors.ProngError` with a `code` (stable: test this one), a `message`,
a `hint` and `data`; `str(error)` is the message and the hint. On the command line its exit status is {EXIT_ERROR}, or
{EXIT_INVALID} for `InvalidInput` and its subclasses; see [command line](command-line.md#errors-and-exit-statuses).

What code *in* a cell raises is not an error of prong: it is `Execution.error`. A limit that is hit is
`Execution.limit`; the end of the whole program is `Execution.ended`.
"""


def errors_page() -> str:
    """The page."""
    lines = [INTRODUCTION, "## Classes", "", "| class | code | raised when |", "|---|---|---|"]
    for cls in sorted(error_classes(), key=lambda c: (c.__module__ != "prong.errors", c.__module__, c.__qualname__)):
        first = " ".join(text(inspect.getdoc(cls) or "").split("\n\n")[0].split())
        lines.append(f"| `{cls.__module__}.{cls.__qualname__}` | `{cls.default_code}` | {first} |")
    lines += ["", "## Further codes", "", "Codes that say more than their class does:", "", "| code | class | raised in |"]
    lines.append("|---|---|---|")
    named = {cls.__name__ for cls in error_classes()}
    for code, owner, module in sorted(_codes(named)):
        lines.append(f"| `{code}` | `{owner}` | `{module}` |")
    return "\n".join(lines) + "\n"


def _codes(classes: set[str]) -> set[tuple[str, str, str]]:
    """(code, class, module) of every error that the source makes with a code of its own."""
    found = set()
    source = Path(prong.__file__).parent
    for path in source.rglob("*.py"):
        module = ".".join(("prong", *path.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in classes:
                continue
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    found.add((str(keyword.value.value), node.func.id, module))
    return found
