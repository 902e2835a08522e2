"""The shape of the source: imports point down, packages explain themselves, files are small, error codes unique."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prong
import prong.errors
from prong.errors import ProngError

SOURCE = Path(prong.__file__).parent
LONGEST_FILE = 400
SHORTEST_GLOSSARY = 5

# From the bottom up. A name may import names of lower rows only, and itself.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"version", "errors"}),
    frozenset({"store", "telemetry"}),
    frozenset({"kvm", "image", "guest", "wire"}),
    frozenset({"cell", "machine"}),
    frozenset({"sandbox", "gateway", "doctor", "bench", "conformance"}),
    frozenset({"agents"}),
    frozenset({"server", "client"}),
    frozenset({"cli"}),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
ROOT = "prong"  # prong/__init__.py stands for the whole and may show anything of it; nothing imports it for its names
STDLIB_ONLY = "guest"


def modules() -> dict[str, Path]:
    """Every module of prong by its dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("prong", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def layer_of(module: str) -> str:
    """``prong.cell.memory`` → ``cell``; ``prong`` → ``prong``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ROOT


def imports(module: str, tree: ast.AST, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported anywhere in ``tree``; relative names made absolute."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            # `from prong import kvm` imports prong.kvm: only the name tells the layer.
            yield from ((node.lineno, f"{base}.{alias.name}" if base == "prong" else base) for alias in node.names)


def violations(module: str, tree: ast.AST, *, is_package: bool = False) -> list[str]:
    """What in ``module`` breaks the layers, one line each."""
    own = layer_of(module)
    found = []
    for line, name in imports(module, tree, is_package=is_package):
        top, _, _ = name.partition(".")
        if top != "prong":
            if own == STDLIB_ONLY and top not in sys.stdlib_module_names:
                found.append(f"{module}:{line} imports {name}; {STDLIB_ONLY} has the standard library only")
            continue
        other = layer_of(name)
        if other == own or own == ROOT:
            continue
        if own == STDLIB_ONLY:
            found.append(f"{module}:{line} imports {name}; {STDLIB_ONLY} runs where prong is not installed")
        elif other not in RANK:
            found.append(f"{module}:{line} imports {name}, which is in no layer of this file's table")
        elif RANK[other] >= RANK[own]:
            found.append(f"{module}:{line} imports {name}: {other} is not below {own}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    path = MODULES[module]
    assert layer_of(module) in {*RANK, ROOT}, f"give {layer_of(module)} a place in LAYERS, and in docs/architecture.md"
    assert violations(module, ast.parse(path.read_bytes()), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "code", "broken"),
    [
        ("prong.kvm.vm", "from prong.cell import memory", True),
        ("prong.kvm.vm", "import prong.image", True),
        ("prong.image.store", "import prong.store.paths", False),
        ("prong.store.paths", "import prong.image", True),
        ("prong.kvm.vm", "def late():\n    from prong import cli", True),
        ("prong.kvm.vm", "from prong.errors import HostUnfit", False),
        ("prong.kvm.vm", "from . import structs", False),
        ("prong.cell.memory", "from ..sandbox import state", True),
        ("prong.cell.memory", "from ..kvm import vm\nimport msgpack", False),
        ("prong.cell.memory", "from prong import __version__", True),
        ("prong.cell.memory", "import prong.nowhere", True),
        ("prong.guest.runtime", "import msgpack", True),
        ("prong.guest.runtime", "from prong.errors import ProngError", True),
        ("prong.guest.runtime", "import json\nfrom prong.guest import frames\nfrom . import frames", False),
        ("prong.doctor.report", "from prong.cell import jail", False),
        ("prong.doctor.report", "from prong.sandbox import state", True),
        ("prong.cli.app", "from prong.server import app\nfrom prong.doctor import examine", False),
    ],
)
def test_the_rule_itself(module: str, code: str, broken: bool) -> None:
    assert bool(violations(module, ast.parse(code))) is broken


def test_relative_import_in_a_package_file() -> None:
    tree = ast.parse("from . import vm")
    assert list(imports("prong.kvm", tree, is_package=True)) == [(1, "prong.kvm")]


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_package_docstring_is_a_glossary(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_bytes())) or ""
    lines = [line for line in docstring.splitlines() if line.strip()]
    assert len(lines) >= SHORTEST_GLOSSARY, f"{MODULES[module]}: say what it does, what it may touch, where to start"


@pytest.mark.parametrize("module", MODULES)
def test_file_is_small(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE, f"{MODULES[module]} has {lines} lines; split it along its ideas"


def error_classes() -> list[type[ProngError]]:
    """Every ProngError class of prong, from every module that can be imported here."""
    for info in pkgutil.walk_packages(prong.__path__, "prong."):
        if layer_of(info.name) != STDLIB_ONLY and not info.name.endswith("__main__"):
            importlib.import_module(info.name)

    def below(cls: type[ProngError]) -> Iterator[type[ProngError]]:
        for child in cls.__subclasses__():
            yield child
            yield from below(child)

    return [ProngError, *(cls for cls in dict.fromkeys(below(ProngError)) if cls.__module__.startswith("prong"))]


def test_error_codes_are_unique() -> None:
    owners: dict[str, list[str]] = {}
    for cls in error_classes():
        owners.setdefault(cls.default_code, []).append(cls.__qualname__)
    assert {code: sorted(names) for code, names in owners.items() if len(names) > 1} == {}


def test_errors_module_lists_no_other_exceptions() -> None:
    for name, cls in inspect.getmembers(prong.errors, inspect.isclass):
        if cls.__module__ == "prong.errors":
            assert issubclass(cls, ProngError), f"{name} is not a ProngError"
            assert cls.__doc__, f"{name} says nothing about when it is raised"
