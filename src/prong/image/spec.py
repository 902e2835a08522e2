"""What an image should hold, parsed once from YAML into a frozen, typed spec.

A spec file extends a built-in spec or another file, adds Debian packages, pip requirements, files and commands, in that
order of installation. Everything a build reads from outside (requirement files, sources of files) is resolved here.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from prong.errors import InvalidInput

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
# Debian policy 5.6.1 for names; the rest is apt's own syntax for a version or a release.
_PACKAGE_PATTERN = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?\Z")
_APT_PATTERN = re.compile(r"\?[a-z][^\s,]*\Z")  # apt-patterns(7)
_SUITE_PATTERN = re.compile(r"[a-z][a-z0-9-]*\Z")
_ENV_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MERGED_LISTS = ("packages", "exclude", "pip", "run")
_MERGED_MAPS = ("files", "env")
_MAX_EXTENDS = 16
_BUILDER = 2  # raise it when the same spec comes out differently: earlier builds are then not taken for it


def check_name(name: str) -> str:
    """Return ``name`` if it can name an image, else raise ValueError."""
    if not NAME_PATTERN.match(name):
        raise ValueError(
            f"{name!r} is not a name: use at most 63 lower-case letters, digits, '.', '_' and '-', the first of them "
            "a letter or a digit"
        )
    return name


def _check_package(package: str) -> str:
    if not _PACKAGE_PATTERN.match(package) and not _APT_PATTERN.match(package):
        raise ValueError(f"{package!r} is not a Debian package name (or name=version, name/release, an apt ?pattern)")
    return package


def _check_suite(suite: str) -> str:
    if not _SUITE_PATTERN.match(suite):
        raise ValueError(f"{suite!r} is not a Debian suite such as bookworm or trixie")
    return suite


def _check_exclude(glob: str) -> str:
    if not glob.removeprefix("!").startswith("/") or "\n" in glob or "\0" in glob:
        raise ValueError(f"{glob!r} must be a glob of absolute paths, such as /usr/share/man/* (or !/... to keep)")
    return glob


def _check_requirement(line: str) -> str:
    if line.startswith(("-r", "-c", "-e", "--requirement", "--constraint", "--editable", "--index", "--extra-index")):
        raise ValueError(f"{line!r}: name packages here; indexes come from this host's own pip configuration")
    if "\0" in line:
        raise ValueError("a requirement cannot hold a NUL character")
    return line


def _check_inside(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or "\0" in path or str(pure) == "/":
        raise ValueError(f"{path!r} must be an absolute path inside the image, without '..'")
    return str(pure)


def _check_workdir(path: str) -> str:
    return path if path == "/" else _check_inside(path)


def _check_env_name(name: str) -> str:
    if not _ENV_PATTERN.match(name):
        raise ValueError(f"{name!r} is not the name of an environment variable")
    return name


def _parse_mode(mode: object) -> object:
    if isinstance(mode, str):
        try:
            return int(mode.removeprefix("0o"), 8)
        except ValueError:
            raise ValueError(f"{mode!r} is not an octal file mode such as '0755'") from None
    return mode


PackageName = Annotated[str, AfterValidator(_check_package)]
Glob = Annotated[str, AfterValidator(_check_exclude)]
Requirement = Annotated[str, AfterValidator(_check_requirement)]
InsidePath = Annotated[str, AfterValidator(_check_inside)]
FileMode = Annotated[int, BeforeValidator(_parse_mode), Field(ge=0, le=0o777)]
Text = Annotated[str, Field(min_length=1)]


class FileEntry(BaseModel):
    """One file to put into the image: either its text, or a file of this host to copy.

    Attributes:
        content: the text itself, written as UTF-8.
        source: absolute path of a regular file on this host.
        mode: permission bits, at most 0o777; read permission for all is always added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    content: str | None = None
    source: Path | None = None
    mode: FileMode = 0o644

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.content is None) == (self.source is None):
            raise ValueError("give exactly one of 'content' and 'source'")
        return self

    def read(self) -> bytes:
        """The bytes to write.

        Raises:
            InvalidInput: the source is missing or is not a readable regular file.
        """
        if self.content is not None:
            return self.content.encode()
        assert self.source is not None  # _exactly_one
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"cannot read {self.source}: {error.strerror}",
                hint="give the path of a regular file, absolute or relative to the spec file",
                data={"field": "files", "path": str(self.source)},
            ) from error


class ImageSpec(BaseModel):
    """What an image holds. Installed in this order: packages, pip, files, run.

    Attributes:
        name: the tag a build gives the image unless told another.
        description: one line for people.
        suite: Debian suite; None for this host's own.
        packages: Debian packages, as apt names them.
        exclude: globs of files from those packages to leave out (``*`` matches ``/`` too); of the globs that match a
            file the last decides, and one that starts with ``!`` keeps it.
        pip: requirement lines (PEP 508), resolved with this host's pip configuration; wheels only.
        files: absolute path in the image to what it holds.
        run: shell commands run inside the root, as its root user, at build time.
        env: environment of the commands above and, later, of programs in the image.
        workdir: where those commands and programs start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, AfterValidator(check_name)]
    description: str = ""
    suite: Annotated[str, AfterValidator(_check_suite)] | None = None
    packages: tuple[PackageName, ...] = ()
    exclude: tuple[Glob, ...] = ()
    pip: tuple[Requirement, ...] = ()
    files: dict[InsidePath, FileEntry] = {}
    run: tuple[Text, ...] = ()
    env: dict[Annotated[str, AfterValidator(_check_env_name)], str] = {}
    workdir: Annotated[str, AfterValidator(_check_workdir)] = "/"

    @classmethod
    def parse(cls, raw: object, *, where: str) -> ImageSpec:
        """Validate a mapping.

        Args:
            raw: what YAML or JSON gave.
            where: names the source in messages.

        Raises:
            InvalidInput: with ``data["field"]``, the dotted path of the first wrong field.
        """
        if not isinstance(raw, dict):
            raise InvalidInput(f"{where}: an image spec is a mapping of fields, not {type(raw).__name__}")
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise InvalidInput(
                f"{where}: {field}: {reason}",
                hint=f"known fields: {', '.join(cls.model_fields)}, extends" if first["type"] == "extra_forbidden" else "",
                data={"field": field, "source": where},
            ) from error

    def key(self, *, suite: str, sources: str) -> str:
        """The build key: equal for two builds that would be given the same instructions.

        Args:
            suite: the Debian suite after defaults.
            sources: the apt sources text the build will use.
        """
        settled = self.model_dump(mode="json", exclude={"name", "description", "files"})
        settled["files"] = {
            path: [entry.mode, hashlib.sha256(entry.read()).hexdigest()] for path, entry in sorted(self.files.items())
        }
        settled |= {"suite": suite, "sources": sources, "builder": _BUILDER}
        return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()


def builtin_names() -> tuple[str, ...]:
    """Names of the specs shipped with prong, sorted."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in resources.files("prong.image.specs").iterdir()
                        if entry.name.endswith(".yaml")))  # fmt: skip


def load_spec(name_or_file: str) -> ImageSpec:
    """The spec of a built-in name (``python``) or of a YAML file (anything with a ``/`` or ending in .yaml or .yml).

    Raises:
        InvalidInput: no such built-in or file, broken YAML, or a wrong field (``data["field"]``).
    """
    raw = _load_raw(name_or_file, base=Path.cwd(), depth=0)
    return ImageSpec.parse(raw, where=name_or_file)


def _load_raw(name_or_file: str, *, base: Path, depth: int) -> dict[str, Any]:
    """One spec's mapping with what it extends merged below it, and every host path made absolute."""
    if depth > _MAX_EXTENDS:
        raise InvalidInput(f"{name_or_file}: specs extend each other in a circle", data={"field": "extends"})
    if "/" in name_or_file or name_or_file.endswith((".yaml", ".yml")):
        path = (base / name_or_file).resolve()
        text, base = _read_text(path, field="spec"), path.parent
    elif name_or_file in builtin_names():
        text = resources.files("prong.image.specs").joinpath(f"{name_or_file}.yaml").read_text()
    else:
        raise InvalidInput(
            f"there is no built-in image spec {name_or_file!r}",
            hint=f"use one of {', '.join(builtin_names())}, or a file ending in .yaml",
            data={"field": "spec"},
        )
    raw = _localise(_parse_yaml(text, where=name_or_file), base=base)
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if not isinstance(parent, str):
        raise InvalidInput(f"{name_or_file}: extends: must be a built-in name or a file", data={"field": "extends"})
    return _merge(_load_raw(parent, base=base, depth=depth + 1), raw)


def _parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise InvalidInput(f"{where}: an image spec is a mapping of fields, not {type(raw).__name__}")
    return raw


def _localise(raw: dict[str, Any], *, base: Path) -> dict[str, Any]:
    """Read a requirements file and make sources absolute, both relative to the spec's own directory."""
    if isinstance(raw.get("pip"), str):
        text = _read_text(base / raw["pip"], field="pip").replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
        raw["pip"] = [line for line in lines if line]
    if isinstance(raw.get("files"), dict):
        raw["files"] = {dest: _localise_file(entry, base=base) for dest, entry in raw["files"].items()}
    return raw


def _localise_file(entry: object, *, base: Path) -> object:
    if isinstance(entry, str):
        return {"content": entry}
    if isinstance(entry, dict) and isinstance(entry.get("source"), str):
        return {**entry, "source": str(base / entry["source"])}
    return entry


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = {**parent, **child}
    for field in _MERGED_LISTS:
        if isinstance(parent.get(field), list) and isinstance(child.get(field), list):
            merged[field] = [*parent[field], *(item for item in child[field] if item not in parent[field])]
    for field in _MERGED_MAPS:
        if isinstance(parent.get(field), dict) and isinstance(child.get(field), dict):
            merged[field] = {**parent[field], **child[field]}
    return merged


def _read_text(path: Path, *, field: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}", data={"field": field, "path": str(path)}) from error
