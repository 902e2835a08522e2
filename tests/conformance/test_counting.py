"""The rule by which cases are counted, and the table made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prong.conformance import table
from prong.conformance.__main__ import keep, main
from prong.conformance.cases import Case, ModuleResult, Totals
from prong.errors import NotFound


def case(outcome: str, refused: int = 0, name: str = "test.m.T.test_x", detail: str = "") -> Case:
    return Case(name, outcome, 0.1, refused, detail)


def module(*cases: Case, name: str = "test_m", trouble: str = "") -> ModuleResult:
    return ModuleResult(name, list(cases), 1.0, 1, trouble)


def test_only_what_the_layer_refused_and_the_suite_skipped_is_left_out() -> None:
    result = module(
        case("passed"), case("expected"), case("failed"), case("error"), case("hung"), case("crashed"),
        case("skipped"), case("skipped", 2), case("passed", 1), case("failed", 3), case("hung", 1),
    )  # fmt: skip
    totals = Totals.of([result])
    assert (totals.passed, totals.failed, totals.refused, totals.skipped, totals.broken) == (2, 4, 3, 2, 2)
    assert totals.rate == pytest.approx(100 * 2 / 6) and not totals.good


def test_the_requirement() -> None:
    good = [case("passed")] * 98
    assert Totals.of([module(*good, case("failed"), case("failed"))]).good
    assert not Totals.of([module(*good, *[case("failed")] * 3)]).good
    assert not Totals.of([module(*good, case("hung"))]).good
    assert not Totals.of([module(*good, trouble="the host does not react")]).good
    assert Totals.of([module(case("failed", 1))]).rate == 100


def test_a_line_with_an_unknown_outcome_is_refused() -> None:
    raw = {"id": "x", "outcome": "excellent", "seconds": 0, "refused": 0, "detail": ""}
    with pytest.raises(ValueError, match="excellent"):
        Case.parse(raw)


def test_results_survive_json() -> None:
    result = module(case("failed", 1, detail="why"))
    assert ModuleResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_reasons_are_short_and_stable() -> None:
    failures = [case("failed", name=f"m.T.test_{n}", detail="Trace\nAssertionError: at 0x7f001234\n") for n in range(5)]
    why = table.reason(module(*failures))
    assert why == "test_0, test_1, test_2 and 2 more: AssertionError: at 0x…" and len(why) <= table.REASON_WIDTH
    assert table.reason(module(case("skipped", detail="needs a C compiler"))) == "needs a C compiler"
    assert table.reason(module(case("passed"), case("skipped", detail="needs a C compiler"))) == ""
    assert table.reason(module(trouble="gone")) == "gone"
    refused = ModuleResult("test_m", [case("error", 1)], calls={"process": ["vfork", "clone"], "network": ["connect"]})
    assert table.reason(refused) == "network: connect; process: clone, vfork"


def test_the_table_escapes_what_tests_say() -> None:
    text = table.markdown([module(case("failed", detail="a | b <script> *x*"))], "About.")
    assert text.splitlines()[-1].endswith("| test\\_x: a \\| b \\<script\\> \\*x\\* |")


def test_docs_are_written_between_the_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "cells.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.write_docs(page, "new\n")
        assert page.read_text() == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(NotFound):
        table.write_docs(page, "new")
    assert page.read_text() == "no markers"


def test_kept_results_can_be_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "results.json"
    keep([module(case("passed"))], 1.0, kept)
    assert main(["--from", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["rate"] == 100
    keep([module(case("failed"))], 1.0, kept)
    assert main(["--from", str(kept)]) == 1
    assert "0.00 % of 1 counted cases" in capsys.readouterr().out
    kept.write_text("[]")
    assert main(["--from", str(kept)]) == 2
