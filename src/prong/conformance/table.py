"""The table of results, for people and for docs/cells.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from prong.conformance.cases import REQUIRED, ModuleResult, Totals
from prong.errors import NotFound

BEGIN = "<!-- conformance: begin (made by scripts/conformance --write-docs) -->"
END = "<!-- conformance: end -->"
REASON_WIDTH = 110
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def summary(totals: Totals) -> str:
    """One line with everything that counts."""
    return (
        f"{totals.rate:.2f} % of {totals.passed + totals.failed:,} counted cases pass "
        f"({REQUIRED:g} % required): {totals.passed:,} passed, {totals.failed:,} failed, "
        f"{totals.refused:,} left out because the cell refused a call by design, {totals.skipped:,} skipped by the suite, "
        f"{totals.broken:,} hung or crashed, in {totals.modules:,} modules"
    )


def reason(module: ModuleResult) -> str:
    """In a few words: what went wrong, else why there is nothing, else the kinds of refused calls."""
    if module.trouble:
        return _short(module.trouble)
    if module.failures:
        first = module.failures[0]
        names = ", ".join(dict.fromkeys(case.id.rpartition(".")[2] for case in module.failures[:3]))
        more = f" and {len(module.failures) - 3} more" if len(module.failures) > 3 else ""
        return _short(f"{names}{more}: {_last_line(first.detail)}")
    if not module.counted and not module.left_out and module.skipped:
        return _short(Counter(case.detail for case in module.skipped).most_common(1)[0][0])
    if module.left_out:
        return _short("; ".join(f"{kind}: {', '.join(sorted(calls))}" for kind, calls in sorted(module.calls.items())))
    return ""


def _last_line(detail: str) -> str:
    lines = [line for line in detail.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _short(text: str) -> str:
    text = _ADDRESS.sub("0x…", " ".join(text.split()))
    return text if len(text) <= REASON_WIDTH else text[: REASON_WIDTH - 1] + "…"


def row(module: ModuleResult) -> tuple[str, str, str, str, str, str]:
    """module, passed, failed, refused by design, skipped, reason."""
    numbers = (module.passed, len(module.failures), len(module.left_out), len(module.skipped))
    return (module.name, *(str(number) for number in numbers), reason(module))  # type: ignore[return-value]


def markdown(modules: list[ModuleResult], about: str) -> str:
    """The generated part of docs/cells.md."""
    ordered = sorted(modules, key=lambda module: module.name)
    lines = [
        f"{summary(Totals.of(ordered))}.",
        "",
        about,
        "",
        "| Module | Passed | Failed | Refused by design | Skipped | Reason |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for module in ordered:
        name, *numbers, why = row(module)
        lines.append(f"| `{name}` | " + " | ".join(numbers) + f" | {_escaped(why)} |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text that stays text in a Markdown table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", text)


def write_docs(path: Path, text: str) -> None:
    """Put ``text`` between the markers in ``path``. Raises NotFound if they are not there."""
    page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NotFound(f"{path} has no place for the table", hint=f"add the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
