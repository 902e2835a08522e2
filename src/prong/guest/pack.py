"""The files to put into an image so that the runtime can start there. Runs outside; reads this package's sources."""

from __future__ import annotations

from pathlib import Path

INSTALL_DIRECTORY = "/usr/lib/prong/runtime"
"""Where the files go, and what to start: ``python3 -I -X utf8 /usr/lib/prong/runtime [--warm FILE]``."""
PACKAGE = "prong_guest"
_MODULES = (
    "__init__",
    "channel",
    "completion",
    "contexts",
    "figures",
    "forking",
    "interrupts",
    "messages",
    "programs",
    "rendering",
    "requests",
    "runs",
    "runtime",
    "sources",
    "streams",
    "surroundings",
    "tracebacks",
    "usermodule",
    "warming",
)


def runtime_files() -> dict[str, bytes]:
    """Path below :data:`INSTALL_DIRECTORY` to content, of every file the runtime needs."""
    here = Path(__file__).parent
    files = {f"{PACKAGE}/{name}.py": (here / f"{name}.py").read_bytes() for name in _MODULES}
    return {"__main__.py": (here / "boot.py").read_bytes(), **files}


def start_command(python: str = "/usr/bin/python3", warm: str | None = None) -> list[str]:
    """The argument vector that starts the runtime; its environment needs ``PRONG_CONTROL_FD``."""
    command = [python, "-I", "-X", "utf8", INSTALL_DIRECTORY]
    return command if warm is None else [*command, "--warm", warm]


def write_runtime(directory: Path) -> None:
    """Write the files below ``directory``, which stands for :data:`INSTALL_DIRECTORY`."""
    for name, content in runtime_files().items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
