"""``prong doctor``: the text, the JSON and the exit status follow the report."""

from __future__ import annotations

import json

import pytest

import prong.doctor
from prong.cli.app import main
from prong.doctor import Report
from prong.doctor.check import fail, ok, warn

Capture = pytest.CaptureFixture[str]
FIT = Report((ok("cpu", "x86_64"), warn("qemu", "not installed", "sudo apt-get install qemu-system-x86")))
UNFIT = Report((ok("cpu", "x86_64"), fail("kvm", "[no] device", "sudo modprobe kvm_intel")))


@pytest.mark.parametrize(("report", "status"), [(FIT, 0), (UNFIT, 1)])
def test_text(report: Report, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(prong.doctor, "examine", lambda: report)
    assert main(["doctor"]) == status
    text = capsys.readouterr().out
    for check in report.checks:
        assert check.status.value in text and check.found in text and check.advice in text
    assert text.splitlines()[-1].startswith("cells can run here" if status == 0 else "cells cannot run here")


@pytest.mark.parametrize(("report", "status"), [(FIT, 0), (UNFIT, 1)])
def test_json(report: Report, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(prong.doctor, "examine", lambda: report)
    assert main(["doctor", "--json"]) == status
    captured = capsys.readouterr()
    assert json.loads(captured.out) == report.as_json()
    assert captured.err == ""


def test_this_host(capsys: Capture) -> None:
    status = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert status == (0 if document["cells"] else 1)
    assert all(check["advice"] for check in document["checks"] if check["status"] != "ok")
