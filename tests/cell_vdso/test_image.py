"""The vDSO's image: the listing is what the assembler makes of it, and every way of looking functions up finds them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from prong.cell.memory.layout import FIRST_FREE, PAGE, SHARED, W
from prong.cell.memory.phys import Physical
from prong.cell.memory.space import Space
from prong.cell.program import vdso, vdsocode
from tests.cell_vdso.elfread import DT_SONAME, PT_LOAD, SharedObject

FUNCTIONS = {"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"}
NAMES = sorted(f"__vdso_{name}".encode() for name in FUNCTIONS)


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")


def test_the_listing_is_what_the_assembler_makes(tmp_path: Path) -> None:
    need("as")
    need("objcopy")
    (tmp_path / "vdso.s").write_text(vdsocode.source())
    subprocess.run(["as", "-o", "vdso.o", "vdso.s"], cwd=tmp_path, check=True, timeout=60)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "vdso.o", "vdso.bin"], cwd=tmp_path, check=True, timeout=60)
    assembled = (tmp_path / "vdso.bin").read_bytes()
    code, symbols = vdsocode.code()
    assert assembled == code
    table = subprocess.run(["nm", "vdso.o"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60).stdout
    assert symbols == {name: int(at, 16) for at, _t, name in map(str.split, table.splitlines()) if "__vdso" in name}


def test_the_listing_and_the_constants_agree() -> None:
    sets = dict(re.findall(r"\.set ([A-Z_]+), (\w+)\s", vdsocode.LISTING))
    for name in ("SEQ", "VALID", "TSC_BASE", "MULT", "MONOTONIC_BASE", "REALTIME_BASE"):
        assert int(sets[name], 0) == getattr(vdsocode, name)
    (to_start, to_page) = re.findall(r"VVAR, start - (\w+) - (\w+)", vdsocode.LISTING)[0]
    assert (int(to_start, 16), int(to_page, 16)) == (vdsocode.CODE_AT, PAGE)


def test_every_lookup_finds_every_function() -> None:
    image = SharedObject(vdso.image())
    _, symbols = vdsocode.code()
    for name in NAMES:
        index = image.by_hash(name)
        assert index is not None and index == image.by_gnu_hash(name)
        found, info, section, value = image.symbol(index)
        assert found == name and info == 0x12 and section != 0
        assert value == vdsocode.CODE_AT + symbols[name.decode()]
        assert image.version(index) == b"LINUX_2.6"
    for name in (b"__vdso_clock_settime", b"", b"clock_gettime", b"LINUX_2.6"):
        assert image.by_hash(name) is None and image.by_gnu_hash(name) is None
    assert image.string(image.dynamic[DT_SONAME]) == b"linux-vdso.so.1"
    assert vdso.elf_hash(b"LINUX_2.6") == 0x3AE75F6  # as vdso(7)'s readers have it built in


def test_one_segment_that_is_one_page() -> None:
    data = vdso.image()
    (load,) = [s for s in SharedObject(data).segments if s[0] == PT_LOAD]
    assert len(data) == PAGE and load == (PT_LOAD, 5, 0, 0, 0, PAGE, PAGE, PAGE)


def test_readelf_shows_the_functions(tmp_path: Path) -> None:
    need("readelf")
    path = tmp_path / "vdso.so"
    path.write_bytes(vdso.image())
    command = ["readelf", "-W", "-D", "-s", "-d", "-l", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    for name in FUNCTIONS:
        assert re.search(rf"FUNC +GLOBAL +DEFAULT +\d+ __vdso_{name}@@LINUX_2\.6", done.stdout), done.stdout
    assert "linux-vdso.so.1" in done.stdout and "rror" not in done.stdout + done.stderr


def test_the_hosts_loader_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "vdso.so"
    path.write_bytes(vdso.image())
    library = ctypes.CDLL(str(path))
    dlvsym = ctypes.CDLL(None).dlvsym
    dlvsym.restype = ctypes.c_void_p
    dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    _, symbols = vdsocode.code()
    addresses = {name: dlvsym(library._handle, name, b"LINUX_2.6") for name in NAMES}
    assert all(addresses.values())
    base = addresses[b"__vdso_time"] - symbols["__vdso_time"]
    assert {name.encode(): base + offset for name, offset in symbols.items()} == addresses
    assert dlvsym(library._handle, b"__vdso_time", b"LINUX_2.5") is None


def test_mapping_it() -> None:
    space = Space(Physical(FIRST_FREE + 64))
    at = vdso.map_vdso(space)
    assert [(start, text, name) for start, _e, text, _o, _d, _i, name in space.regions()] == [
        (at - PAGE, "r--p", "[vvar]"),
        (at, "r-xp", "[vdso]"),
    ]
    assert space.vvar_frame is not None
    entry = space.tables.get(at // PAGE - 1)
    assert entry & SHARED and not entry & W and not space.tables.get(at // PAGE) & W
    assert bytes(space.phys.view(space.vvar_frame)) == bytes(PAGE)


def test_the_data_frame_stays_ours_when_the_program_unmaps_it() -> None:
    space = Space(Physical(FIRST_FREE + 64))
    at = vdso.map_vdso(space)
    space.unmap(at - PAGE, 2 * PAGE)
    free = space.phys.free_frames
    assert space.vvar_frame not in space.phys.alloc(free)
    assert not list(space.regions())
