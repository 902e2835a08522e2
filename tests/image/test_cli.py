from __future__ import annotations

import json
from pathlib import Path

import pytest

from prong.cli.app import main
from tests.image.conftest import small_root


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRONG_HOME", str(tmp_path / "home"))


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    assert isinstance(document, dict)
    return document


def test_a_life_of_an_image(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = small_root(tmp_path / "source")
    made = run_json(capsys, "image", "import", str(source), "--tag", "mine")
    assert made["names"] == ["mine"]
    listed = run_json(capsys, "image", "ls")
    assert listed == {"images": [made]}
    inspected = run_json(capsys, "image", "inspect", "mine", "--verify")
    assert inspected["verified"] is True
    assert isinstance(inspected["manifest"], dict) and inspected["manifest"]["origin"] == "import"
    tar = tmp_path / "mine.tar.gz"
    assert run_json(capsys, "image", "export", "mine", str(tar))["size_bytes"] == tar.stat().st_size
    again = run_json(capsys, "image", "import", str(tar), "--tag", "again")
    assert again["digest"] == made["digest"]
    assert run_json(capsys, "image", "rm", "mine", "again") == {
        "removed": [{"image": "mine", "digest": made["digest"]}, {"image": "again", "digest": made["digest"]}]
    }
    assert run_json(capsys, "image", "ls") == {"images": []}


def test_text_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["image", "ls"]) == 0
    assert "prong image build python" in capsys.readouterr().out
    assert main(["image", "import", str(small_root(tmp_path / "source")), "--tag", "mine"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("mine: ")
    assert "importing" in captured.err and "seal" in captured.err
    assert main(["image", "ls"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["image", "inspect", "mine"]) == 0
    assert "digest" in capsys.readouterr().out


def test_built_image_in_text_and_failure_with_log(capsys: pytest.CaptureFixture[str], fake: Path, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text("name: tiny\n")
    assert main(["image", "build", str(spec)]) == 0
    assert "tiny: " in capsys.readouterr().out
    (fake / "fail").touch()
    assert main(["image", "build", str(spec), "--force"]) == 1
    shown = capsys.readouterr().err
    assert "Unable to locate package nonsense" in shown
    assert "[build_failed]" in shown
    assert main(["image", "build", str(spec), "--force", "--json"]) == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "build_failed"
    assert error["data"]["log"][-1] == "E: Unable to locate package nonsense"
    assert "nonsense" in Path(error["data"]["log_file"]).read_text()


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["image", "inspect", "nothing"], "not_found", 1),
        (["image", "rm", "nothing"], "not_found", 1),
        (["image", "build", "pyhton"], "invalid_input", 2),
        (["image", "build", "./missing.yaml"], "invalid_input", 2),
        (["image", "import", "./missing.tar", "--tag", "x"], "not_found", 1),
        (["image", "import", ".", "--tag", "A B"], "invalid_input", 2),
    ],
)
def test_errors_have_a_code(capsys: pytest.CaptureFixture[str], words: list[str], code: str, status: int) -> None:
    assert main([*words, "--json"]) == status
    assert json.loads(capsys.readouterr().err)["error"]["code"] == code
