from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from prong.errors import InvalidInput
from prong.image import ImageSpec, builtin_names, load_spec


def write(folder: Path, text: str, name: str = "spec.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_specs_load_and_carry_their_name(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert "coreutils" in spec.packages
    assert spec.env["PATH"].startswith("/usr/local/bin")


def test_builtins_are_the_documented_ones() -> None:
    assert builtin_names() == ("base", "node", "programs", "python", "testsuite", "wheels")


def test_extends_appends_lists_and_overrides_single_fields(tmp_path: Path) -> None:
    spec = load_spec(
        write(tmp_path, "extends: python\nname: mine\npackages: [cowsay, bash]\nenv: {LANG: C, A: b}\nworkdir: /srv\n")
    )
    assert spec.packages[-1] == "cowsay"
    assert spec.packages.count("bash") == 1
    assert "python3-numpy" in spec.packages
    assert (spec.env["LANG"], spec.env["A"], spec.env["MPLBACKEND"]) == ("C", "b", "Agg")
    assert spec.workdir == "/srv"


def test_relative_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/requirements.txt").write_text("# a comment\nsix==1.16 # why\n\nidna \\\n  >=3\n")
    (tmp_path / "sub/data.bin").write_bytes(b"\x00\xff")
    text = "name: x\npip: requirements.txt\nfiles:\n  /opt/data: {source: data.bin, mode: '0755'}\n  /etc/motd: hi\n"
    spec = load_spec(write(tmp_path / "sub", text))
    assert [line.split() for line in spec.pip] == [["six==1.16"], ["idna", ">=3"]]
    assert spec.files["/opt/data"].read() == b"\x00\xff"
    assert spec.files["/opt/data"].mode == 0o755
    assert spec.files["/etc/motd"].read() == b"hi"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name: Bad Name\n", "name"),
        ("name: x\nnonsense: 1\n", "nonsense"),
        ("name: x\npackages: [ok, 'rm -rf /']\n", "packages.1"),
        ("name: x\npackages: ['a,b']\n", "packages.0"),
        ("name: x\npip: ['-r other.txt']\n", "pip.0"),
        ("name: x\npip: ['--index-url=http://elsewhere']\n", "pip.0"),
        ("name: x\nsuite: '../x'\n", "suite"),
        ("name: x\nfiles: {relative: text}\n", "files.relative.[key]"),
        ("name: x\nfiles: {/a/../../b: text}\n", "files./a/../../b.[key]"),
        ("name: x\nfiles: {/a: {content: x, source: y}}\n", "files./a"),
        ("name: x\nfiles: {/a: {content: x, mode: 755}}\n", "files./a.mode"),
        ("name: x\nfiles: {/a: {content: x, mode: 'rwx'}}\n", "files./a.mode"),
        ("name: x\nenv: {'A=B': x}\n", "env.A=B.[key]"),
        ("name: x\nworkdir: relative\n", "workdir"),
        ("name: x\nrun: ['']\n", "run.0"),
        ("name: x\nexclude: ['usr/*']\n", "exclude.0"),
        ("packages: [bash]\n", "name"),
        ("name: x\nextends: [a]\n", "extends"),
        ("name: x\npip: missing.txt\n", "pip"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_spec(write(tmp_path, text))
    assert caught.value.data["field"] == field


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="line 2"):
        load_spec(write(tmp_path, "name: x\npackages: }\n"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "", "1: 2\n"])
def test_yaml_that_is_not_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="mapping"):
        load_spec(write(tmp_path, text))


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not YAML"):
        load_spec(write(tmp_path, "name: !!python/object/apply:os.system ['true']\n"))


def test_unknown_builtin_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        load_spec("pyhton")
    assert "python" in caught.value.hint


def test_extends_in_a_circle_ends(tmp_path: Path) -> None:
    write(tmp_path, "extends: ./b.yaml\nname: a\n", "a.yaml")
    write(tmp_path, "extends: ./a.yaml\nname: b\n", "b.yaml")
    with pytest.raises(InvalidInput, match="circle"):
        load_spec(str(tmp_path / "a.yaml"))


def test_specs_are_frozen() -> None:
    spec = ImageSpec(name="x")
    with pytest.raises(ValidationError):
        spec.name = "y"


def key(spec: ImageSpec) -> str:
    return spec.key(suite="bookworm", sources="s")


def test_key_follows_what_is_installed_not_what_it_is_called(tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_text("one")
    raw: dict[str, object] = {"name": "a", "files": {"/f": {"source": str(source)}}}
    first = key(ImageSpec.parse(raw, where="t"))
    assert key(ImageSpec.parse({**raw, "name": "b", "description": "d"}, where="t")) == first
    assert key(ImageSpec.parse({**raw, "run": ["true"]}, where="t")) != first
    source.write_text("two")
    assert key(ImageSpec.parse(raw, where="t")) != first


def test_key_of_a_spec_whose_source_is_missing_says_so(tmp_path: Path) -> None:
    spec = ImageSpec.parse({"name": "a", "files": {"/f": {"source": str(tmp_path / "gone")}}}, where="t")
    with pytest.raises(InvalidInput, match="gone"):
        key(spec)
