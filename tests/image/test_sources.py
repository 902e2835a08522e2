from __future__ import annotations

from pathlib import Path

import pytest

from prong.image.sources import debian_sources, host_suite, read_sources, without_credentials

DEBIAN = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
VENDOR = """\
Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_only_debians_archives_of_the_suite_are_taken(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN)
    (etc / "sources.list.d/vendor.sources").write_text(VENDOR)
    text = debian_sources("bookworm", etc)
    assert "vendor" not in text
    assert "Suites: bookworm bookworm-updates\nComponents: main contrib\n" in text
    assert "Suites: bookworm-security" in text
    assert "backports" not in text


def test_disabled_and_source_only_stanzas_are_left_out(etc: Path) -> None:
    (etc / "sources.list.d/a.sources").write_text("Enabled: no\n" + DEBIAN.split("\n", 1)[1])
    (etc / "sources.list.d/b.sources").write_text(DEBIAN.replace("Types: deb deb-src", "Types: deb-src"))
    assert [source.suites for source in read_sources(etc)] == [("bookworm-security",), ("bookworm-security",)]


def test_one_line_format(etc: Path) -> None:
    (etc / "sources.list").write_text(
        "deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://m.example/debian bookworm main contrib # why\n"
        "# deb http://m.example/debian trixie main\n"
        "deb-src http://m.example/debian bookworm main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
        "deb https://vendor.example/apt stable main\n"
    )
    text = debian_sources("bookworm", etc)
    assert "URIs: http://m.example/debian\nSuites: bookworm\nComponents: main contrib\n" in text
    assert "debian-security" in text
    assert "vendor" not in text


def test_another_suite_comes_from_the_same_mirror(etc: Path) -> None:
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN)
    text = debian_sources("trixie", etc)
    assert "URIs: http://mirror.example/debian\nSuites: trixie\n" in text
    assert "bookworm" not in text


def test_without_any_debian_archive_the_choice_is_mmdebstraps(etc: Path) -> None:
    (etc / "sources.list.d/vendor.sources").write_text(VENDOR)
    assert debian_sources("bookworm", etc) == ""


def test_host_suite(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    assert host_suite(release) == "bookworm"
    release.write_text('ID=debian\nVERSION_CODENAME="trixie"\n')
    assert host_suite(release) == "trixie"
    release.write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    assert host_suite(release) == "bookworm"


def test_credentials_leave_the_text() -> None:
    assert without_credentials("URIs: https://me:pw@m.example/debian") == "URIs: https://m.example/debian"
