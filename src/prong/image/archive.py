"""Trees into and out of tar archives, without trusting the archive.

An archive may come from anyone. Each member is checked before anything of it is written: its name stays below the
top, no parent of it is a link that leads out, a hard link names a file already unpacked here, and there are no
devices, pipes or sockets. The runtime directories (:data:`~prong.image.tree.RUNTIME_DIRS`) come out empty whatever
the archive holds in them. Python's own ``data`` filter (PEP 706) would refuse the absolute symbolic links every root
file system has; inside a sandbox those resolve against the image, and here nothing is ever written through one.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from prong.errors import InvalidInput
from prong.image.tree import RUNTIME_DIRS, walk

_COPY_CHUNK = 1 << 20
_WRITE_MODES: dict[str, Literal["w", "w:gz", "w:xz"]] = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".txz": "w:xz"}


def unpack(archive: Path | IO[bytes], root: Path, *, tick: Callable[[str], None] = lambda name: None) -> None:
    """Unpack a tar (plain, gzip, bzip2 or xz) into the empty directory ``root``.

    Owners, extended attributes and setuid bits are not kept; modification times are.

    Args:
        archive: a file's path, or a stream to read from (plain or compressed too).
        root: where to unpack.
        tick: called with each member's path.

    Raises:
        InvalidInput: not a tar, cut short, or a member that is refused; ``data["member"]`` names it. What was
            unpacked so far stays behind for the caller to remove.
    """
    name = str(archive) if isinstance(archive, Path) else "the archive"
    try:
        with tarfile.open(archive, "r:*") if isinstance(archive, Path) else tarfile.open(fileobj=archive, mode="r|*") as tar:
            unpacker = _Unpacker(root, tar)
            for member in tar:
                tick(member.name)
                unpacker.add(member)
            unpacker.finish()
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidInput(f"{name} is not a whole tar archive: {error}", data={"archive": name}) from error


class _Unpacker:
    """Writes one archive's members below one directory, refusing whatever could reach outside it."""

    def __init__(self, root: Path, tar: tarfile.TarFile) -> None:
        self._root = os.path.realpath(root)
        self._tar = tar
        self._real_dirs = {self._root}  # known to be directories and not links
        self._times: list[tuple[str, int]] = []

    def add(self, member: tarfile.TarInfo) -> None:
        relative = _inside(member.name, member.name)
        if not relative or relative.split("/", 1)[0] in RUNTIME_DIRS:
            return
        target = self._place(relative, member.name)
        if member.isdir():
            self._directory(target)
        elif member.issym():
            self._replace(target, member.name)
            os.symlink(member.linkname, target)
        elif member.islnk():
            source = self._link_source(member)
            self._replace(target, member.name)
            os.link(source, target, follow_symlinks=False)
        elif member.isfile():
            self._replace(target, member.name)
            self._file(member, target)
        else:
            raise _refused(member.name, "is a device, pipe or socket")

    def finish(self) -> None:
        """Set directory times, after their entries no longer change them."""
        for path, mtime in reversed(self._times):
            os.utime(path, (mtime, mtime), follow_symlinks=False)

    def _place(self, relative: str, name: str) -> str:
        """Where a member goes; its parents exist afterwards and are real directories inside the root.

        A parent that is a link *within* the tree (``lib -> usr/lib``) is followed; one that leads out is refused.
        """
        parent, _, base = relative.rpartition("/")
        where = os.path.join(self._root, parent) if parent else self._root
        if where not in self._real_dirs:
            resolved = os.path.realpath(where)
            if resolved != self._root and not resolved.startswith(f"{self._root}/"):
                raise _refused(name, "is to be written through a link that leads outside")
            try:
                os.makedirs(resolved, mode=0o755, exist_ok=True)
            except FileExistsError:
                raise _refused(name, "lies below something that is not a directory") from None
            if resolved == where:
                self._real_dirs.add(where)
            where = resolved
        return os.path.join(where, base)

    def _directory(self, target: str) -> None:
        # A link to a directory stays: layered archives list /lib as a directory over the link to usr/lib.
        if not os.path.isdir(target) or not os.path.realpath(target).startswith(f"{self._root}/"):
            self._replace(target, target)
            os.mkdir(target, 0o755)

    def _replace(self, target: str, name: str) -> None:
        """Later members win over earlier ones, but a directory is never swapped for something else."""
        try:
            existing = os.lstat(target)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(existing.st_mode):
            raise _refused(name, "would replace a directory")
        os.unlink(target)

    def _link_source(self, member: tarfile.TarInfo) -> str:
        linked = _inside(member.linkname, member.name)
        source = os.path.join(self._root, linked)
        parent = os.path.realpath(os.path.dirname(source))
        if parent != self._root and not parent.startswith(f"{self._root}/"):
            raise _refused(member.name, "is a hard link to something outside")
        resolved = os.path.join(parent, os.path.basename(source))
        if not os.path.lexists(resolved) or stat.S_ISDIR(os.lstat(resolved).st_mode):
            raise _refused(member.name, f"is a hard link to {member.linkname!r}, which the archive has not given before")
        return resolved

    def _file(self, member: tarfile.TarInfo, target: str) -> None:
        stream = self._tar.extractfile(member)
        assert stream is not None  # only for members that are not files
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as output:
            left = member.size
            while left:
                chunk = stream.read(min(left, _COPY_CHUNK))
                if not chunk:
                    raise tarfile.ReadError(f"unexpected end of data in {member.name}")
                output.write(chunk)
                left -= len(chunk)
            output.flush()
            os.fchmod(output.fileno(), (member.mode & 0o755) | 0o600)
            os.utime(output.fileno(), (max(member.mtime, 0), max(member.mtime, 0)))


def _inside(path: str, name: str) -> str:
    """``path`` relative to the top, "" for the top itself."""
    if path.startswith("/"):
        raise _refused(name, "has an absolute path")
    parts = PurePosixPath(path).parts
    if ".." in parts:
        raise _refused(name, "has '..' in its path")
    return "/".join(parts)


def _refused(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"archive member {name!r} {why}; nothing was imported", data={"member": name})


def pack(root: Path, output: Path) -> None:
    """Write the tree as a tar owned by root, compressed as ``output``'s suffix says (.tar, .tar.gz, .tar.xz).

    Raises:
        OSError: ``output`` cannot be written.
    """
    with tarfile.open(output, _WRITE_MODES.get(output.suffix, "w"), format=tarfile.PAX_FORMAT) as tar:
        for relative, _ in walk(root):
            tar.add(os.path.join(root, relative), arcname=relative, recursive=False, filter=_as_root)


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = int(info.mtime)
    return info


def copy_tree(source: Path, root: Path, *, tick: Callable[[str], None] = lambda name: None) -> None:
    """Copy a directory tree into the empty directory ``root``, under the rules of :func:`unpack`. Hard links are kept.

    Raises:
        InvalidInput: it holds a device, pipe or socket outside the runtime directories, or something unreadable.
    """
    linked: dict[tuple[int, int], str] = {}
    for relative, info in walk(source):
        if relative.split("/", 1)[0] in RUNTIME_DIRS:
            continue
        tick(relative)
        origin, target = os.path.join(source, relative), os.path.join(root, relative)
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(target, 0o755)
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(origin), target)
        elif stat.S_ISREG(info.st_mode):
            first = linked.setdefault((info.st_dev, info.st_ino), target)
            if first != target:
                os.link(first, target)
            else:
                _copy_file(origin, target, info)
        else:
            raise _refused(relative, "is a device, pipe or socket")


def _copy_file(origin: str, target: str, info: os.stat_result) -> None:
    try:
        source = os.open(origin, os.O_RDONLY | os.O_NOFOLLOW)
    except PermissionError as error:
        raise InvalidInput(f"{origin} cannot be read", hint="import it as a user who can", data={"path": origin}) from error
    with os.fdopen(source, "rb") as stream, open(target, "xb") as output:
        while chunk := stream.read(_COPY_CHUNK):
            output.write(chunk)
        output.flush()
        os.fchmod(output.fileno(), (info.st_mode & 0o755) | 0o600)
        os.utime(output.fileno(), (info.st_mtime, info.st_mtime))
