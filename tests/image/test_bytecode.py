from __future__ import annotations

import importlib.util
import os
import py_compile
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from prong.image import bytecode


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "root/pkg/module.py"
    path.parent.mkdir(parents=True)
    path.write_text("value = 1\n")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def compiled(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def compile_with(source: Path, mode: py_compile.PycInvalidationMode) -> Path:
    py_compile.compile(str(source), doraise=True, invalidation_mode=mode)
    return compiled(source)


@pytest.mark.parametrize(
    "mode", [py_compile.PycInvalidationMode.CHECKED_HASH, py_compile.PycInvalidationMode.UNCHECKED_HASH]
)
def test_hash_based_files_become_what_python_itself_would_write(
    tmp_path: Path, source: Path, mode: py_compile.PycInvalidationMode
) -> None:
    path = compile_with(source, mode)
    assert bytecode.stamp(tmp_path / "root") == 1
    stamped = path.read_bytes()
    assert stamped == compile_with(source, py_compile.PycInvalidationMode.TIMESTAMP).read_bytes()
    assert bytecode.stamp(tmp_path / "root") == 0


def test_an_edit_of_the_source_still_counts(tmp_path: Path, source: Path) -> None:
    compile_with(source, py_compile.PycInvalidationMode.UNCHECKED_HASH)
    bytecode.stamp(tmp_path / "root")
    source.write_text("value = 22\n")
    command = [sys.executable, "-c", "import module; print(module.value)"]
    assert subprocess.run(command, cwd=source.parent, capture_output=True, text=True).stdout == "22\n"


def test_files_without_a_source_or_a_header_are_left_alone(tmp_path: Path, source: Path) -> None:
    path = compile_with(source, py_compile.PycInvalidationMode.CHECKED_HASH)
    orphan = path.with_name("orphan.cpython-311.pyc")
    orphan.write_bytes(path.read_bytes())
    path.write_bytes(b"short")
    assert bytecode.stamp(tmp_path / "root") == 0
    assert struct.unpack("<I", orphan.read_bytes()[4:8]) == (3,)
