"""Directories and files that appear whole or not at all, also when their maker is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prong.errors import Conflict, Corrupt, NotFound
from prong.store.atomic import (
    TEMP_PREFIX,
    lock,
    new_dir,
    read_bytes,
    read_json,
    remove_dir,
    remove_tree,
    sweep,
    write_file,
    write_json,
)


def temps(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(TEMP_PREFIX)]


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "thing"
    with new_dir(final, durable=True) as temp:
        assert temp.parent == final.parent and temp.name.startswith(TEMP_PREFIX)
        (temp / "sub").mkdir()
        (temp / "sub" / "file").write_text("x")
        (temp / "link").symlink_to("/nowhere")
        assert not final.exists()
    assert (final / "sub" / "file").read_text() == "x"
    assert temps(final.parent) == []


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_dir(tmp_path / "thing") as temp:
        (temp / "locked").mkdir()
        (temp / "locked" / "file").touch()
        (temp / "locked").chmod(0o500)
        raise KeyError("x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file"])
def test_what_is_there_is_not_touched(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "thing"
    if kind == "file":
        final.write_text("old")
    else:
        final.mkdir()
        if kind == "directory":
            (final / "old").touch()
    with pytest.raises(Conflict), new_dir(final) as temp:
        (temp / "new").touch()
    assert final.is_file() or os.listdir(final) == (["old"] if kind == "directory" else [])
    assert temps(tmp_path) == []


def test_replacing(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with new_dir(tmp_path / "thing", replace=True) as temp:
            (temp / content).touch()
    assert os.listdir(tmp_path / "thing") == ["two"] and temps(tmp_path) == []


def test_sweep_leaves_the_living_alone(tmp_path: Path) -> None:
    (tmp_path / f"{TEMP_PREFIX}dead").mkdir()
    (tmp_path / f"{TEMP_PREFIX}dead" / "x").touch()
    (tmp_path / f"{TEMP_PREFIX}file").touch()
    (tmp_path / "other").mkdir()
    with new_dir(tmp_path / "thing") as temp:
        assert sorted(sweep(tmp_path)) == [f"{TEMP_PREFIX}dead", f"{TEMP_PREFIX}file"]
        assert temp.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["other", "thing"]
    assert sweep(tmp_path / "absent") == []


def test_two_sweeps_and_two_makers_at_once(tmp_path: Path) -> None:
    """Makers must never lose a directory to a sweep, at whatever moment it runs."""
    context = multiprocessing.get_context("spawn")
    sweeper = context.Process(target=_sweep_for_ever, args=(str(tmp_path),))
    sweeper.start()
    try:
        for number in range(300):
            with new_dir(tmp_path / str(number)) as temp:
                (temp / "x").touch()
            write_file(tmp_path / "file", b"x", durable=False)
    finally:
        sweeper.kill()
        sweeper.join()
        sweeper.close()
    sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 301 and all((tmp_path / str(n) / "x").exists() for n in range(300))


def _sweep_for_ever(folder: str) -> None:
    while True:
        sweep(Path(folder))


MAKER = """
import os, sys
from pathlib import Path
from prong.cell.state.snapshot import write_memory
from prong.store.atomic import new_dir, write_json, write_file
root = Path(sys.argv[1])
memory = memoryview(bytearray(os.urandom(4096) * 512))
print("ready", flush=True)
n = 0
while True:
    with new_dir(root / str(n)) as temp:
        fd = os.open(temp / "memory", os.O_WRONLY | os.O_CREAT)
        write_memory(fd, memory)
        os.close(fd)
        write_json(temp / "manifest.json", {"n": n}, durable=False)
    write_file(root / "last", str(n).encode() * 1000, durable=False)
    n += 1
"""


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_half_done_after_kill_9(tmp_path: Path, seed: int) -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)], stdout=subprocess.PIPE)
    with maker:
        assert maker.stdout is not None and maker.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0.002, 0.08))
        maker.send_signal(signal.SIGKILL)
    sweep(tmp_path)
    names = set(os.listdir(tmp_path)) - {"last"}
    assert not [name for name in names if name.startswith(TEMP_PREFIX)]
    for name in names:
        assert (tmp_path / name / "memory").stat().st_size == 512 * 4096
        assert json.loads((tmp_path / name / "manifest.json").read_text()) == {"n": int(name)}
    if (tmp_path / "last").exists():
        text = (tmp_path / "last").read_text()
        number = text[: len(text) // 1000]
        assert text == number * 1000 and number in names


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_file(path, b"one")
    write_file(path, b"two", mode=0o640)
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o640
    (tmp_path / "dir").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "dir", b"x")
    assert temps(tmp_path) == []


def test_json_is_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": [1, None], "a": "é"})
    assert read_json(path) == {"a": "é", "b": [1, None]}
    with pytest.raises(NotFound):
        read_json(tmp_path / "absent")
    with pytest.raises(NotFound):
        read_json(path / "below")
    for bad in (b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"a": 1}' * 2):
        path.write_bytes(bad)
        with pytest.raises(Corrupt):
            read_json(path)
    with pytest.raises(Corrupt):
        read_bytes(path, limit=5)
    for odd in ("fifo", "dir"):
        (os.mkfifo if odd == "fifo" else os.mkdir)(tmp_path / odd)
        with pytest.raises((Corrupt, IsADirectoryError)):
            read_bytes(tmp_path / odd, limit=5)


def test_locks(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with lock(path), pytest.raises(Conflict), lock(path, wait=False):
        pass
    with lock(path, shared=True), lock(path, shared=True, wait=False), pytest.raises(Conflict), lock(path, wait=False):
        pass
    with lock(tmp_path), pytest.raises(Conflict), lock(tmp_path, shared=True, wait=False):
        pass


def test_removing(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "d" / "e").chmod(0o500)
    remove_dir(tmp_path / "d")
    assert os.listdir(tmp_path) == ["kept"]
    with pytest.raises(NotFound):
        remove_dir(tmp_path / "d")
    (tmp_path / "alias").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "alias")
    remove_tree(tmp_path / "alias")
    assert os.listdir(tmp_path) == ["kept"]
