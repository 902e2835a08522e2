"""Copying single files between this host and a cell, with errors that name the file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prong.cli.values import Pair
from prong.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from prong.cell.engine import Cell


def read_local(path: Path) -> bytes:
    """The bytes of a file of this host. Raises NotFound, InvalidInput (a directory, not readable)."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", data={"path": str(path)}) from None
    except IsADirectoryError:
        raise InvalidInput(
            f"{path} is a directory", hint="put its files one by one, or a tar of it", data={"path": str(path)}
        ) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", data={"path": str(path)}) from None


def write_local(path: Path, data: bytes) -> None:
    """Make or replace a file of this host. Raises NotFound (no such directory), InvalidInput (cannot be written)."""
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        raise NotFound(f"there is no directory {path.parent}", data={"path": str(path)}) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", data={"path": str(path)}) from None


def put(cell: Cell, pairs: Iterable[Pair]) -> None:
    """Copy files into ``cell``, making the directories they go to; permission to execute comes along.

    All local files are read before any is written, so that a missing one leaves nothing half-done.
    """
    loaded = [(pair, read_local(pair.local), 0o755 if pair.local.stat().st_mode & 0o100 else 0o644) for pair in pairs]
    for pair, data, mode in loaded:
        cell.files.mkdir(posixpath.dirname(pair.inside), parents=True)
        cell.files.write(pair.inside, data, mode=mode)


def get(cell: Cell, pairs: Iterable[Pair]) -> None:
    """Copy files out of ``cell``. Raises NotFound, Conflict (a directory) and what :func:`write_local` raises."""
    for pair in pairs:
        if cell.files.stat(pair.inside).kind == "directory":
            raise Conflict(f"{pair.inside} is a directory", hint="get its files one by one", data={"path": pair.inside})
        write_local(pair.local, cell.files.read(pair.inside))
