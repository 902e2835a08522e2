"""The checkout itself: what is committed, and the scripts around it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Written apart, so that this file does not hold what it looks for.
REGISTRY_HOSTS = tuple(
    ".".join(words) for words in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"), ("deb", "debian", "org"))
)
SCRIPTS = ("scripts/setup", "scripts/test", "scripts/lint", "scripts/demo", "scripts/bench", "scripts/lock", ".ci/run")


def committed_files() -> list[Path]:
    """Files git tracks or would track; without git (a source archive), all but caches and the environment."""
    if (REPOSITORY / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.decode()
        return [path for name in listed.split("\0") if name and (path := REPOSITORY / name).is_file()]
    skip = re.compile(r"(^|/)(\.venv|__pycache__|\.\w+_cache|\.hypothesis|dist|build)(/|$)")
    everything = (path for path in REPOSITORY.rglob("*") if path.is_file())
    return [path for path in everything if not skip.search(str(path.relative_to(REPOSITORY)))]


def test_no_file_names_a_registry_host() -> None:
    files = committed_files()
    assert REPOSITORY / "pyproject.toml" in files
    found = [
        f"{path.relative_to(REPOSITORY)}: {host}"
        for path in files
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert found == []


def test_lock_covers_what_is_declared_and_is_hashed() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=!~\[ ;]", one)[0].lower().replace("_", "-") for one in declared}
    lock = (REPOSITORY / "requirements.lock").read_text()
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    locked = {block.partition("==")[0]: block for block in blocks}
    assert names - locked.keys() == set(), "run scripts/lock"
    assert [name for name, block in locked.items() if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_parses_and_can_be_run(name: str) -> None:
    script = REPOSITORY / name
    assert script.stat().st_mode & 0o111, f"chmod +x {name}"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_directory_of_source_is_a_package() -> None:
    source = REPOSITORY / "src" / "prong"
    folders = {path.parent for path in source.rglob("*.py")}
    parents = {parent for folder in folders for parent in (folder, *folder.parents) if parent.is_relative_to(source)}
    assert sorted(str(folder) for folder in parents if not (folder / "__init__.py").exists()) == []


def test_documentation_links_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(REPOSITORY)} → {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
