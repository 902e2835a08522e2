"""``prong template`` and ``prong demo`` for real."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import prong, prong_json

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("template")]
_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A template name of this test's own; the template is removed afterwards."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    yield name
    prong("template", "rm", name)


def test_a_life_of_a_template(name: str, tmp_path: Path) -> None:
    warm = tmp_path / "warm.py"
    warm.write_text("import json\nready = ['warmed']\n")
    made = prong_json("template", "create", name, "--warm", str(warm), "--memory", "128M")
    assert made["name"] == name and made["memory"] == 128 << 20 and made["image_name"]
    assert prong("run", "print(1)", "--template", name, "--memory", "128M").stdout == b"1\n"
    again = prong("template", "create", name)
    assert again.returncode == 1 and "--replace" in again.stderr.decode()
    assert prong_json("template", "create", name, "--replace")["memory"] == 256 << 20
    assert name in [t["name"] for t in prong_json("template", "ls")["templates"]]
    assert prong_json("template", "inspect", name)["snapshot"]["memory"]["pages"] > 0
    assert prong_json("template", "rm", name) == {"removed": [name]}
    assert prong("template", "inspect", name).returncode == 1


def test_a_warm_up_that_raises_leaves_nothing(name: str, tmp_path: Path) -> None:
    warm = tmp_path / "warm.py"
    warm.write_text("print('so far')\nraise ValueError('no good')\n")
    done = prong("template", "create", name, "--warm", str(warm))
    err = done.stderr.decode()
    assert done.returncode == 1 and "error [build_failed]" in err and "ValueError: no good" in err
    assert prong("template", "inspect", name).returncode == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--memory", "lots"), "invalid_input"),
        (("--image", "no-such-image"), "not_found"),
        (("--warm", "/no/such"), "not_found"),
    ],
)
def test_wrong_templates(name: str, words: tuple[str, ...], code: str) -> None:
    done = prong("template", "create", name, *words)
    assert done.returncode in (1, 2) and f"error [{code}]" in done.stderr.decode()


@pytest.mark.slow
def test_the_demo_shows_what_it_says() -> None:
    facts = prong_json("demo")
    branches = facts["outputs"]["branches"]
    assert len(branches) == 4 and len({line.split()[0] for line in branches}) == 4, "each has a hostname of its own"
    walks = [line.partition("[")[2] for line in branches]
    assert len(set(walks)) > 1 and len({walk.split(", ")[0] for walk in walks}) == 1, "one beginning, several ends"
    assert facts["outputs"]["rollback"] == {
        "damaged": "answer = None, notes.txt is gone", "restored": "answer = 42, notes.txt is there",
    }  # fmt: skip
    assert "use a machine" in facts["outputs"]["refused"]["advice"]
    assert all(timing["p50_ms"] > 0 and timing["n"] >= 1 for timing in facts["timings"])
    assert {"demo.fork", "demo.fork_to_output", "demo.live_fork"} <= {timing["id"] for timing in facts["timings"]}
    walker = next(node for node in facts["tree"]["children"] if node["label"] == "walker")
    assert len(walker["children"]) == 3
