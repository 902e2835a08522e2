"""Which Debian archives a build installs from: this host's own, and only the Debian ones among them.

A host may also list vendors' archives (sources.list(5)); an image takes nothing from those, so that one spec means
the same packages everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DEFAULT_SUITE = "bookworm"
_ETC_APT = Path("/etc/apt")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive: the fields of a deb822 stanza that matter here.

    Attributes:
        signed_by: path of the keyring, or "" when the stanza names none.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""

    def stanza(self) -> str:
        """The stanza in deb822 form, as apt and mmdebstrap read it."""
        return (
            f"Types: deb\nURIs: {' '.join(self.uris)}\nSuites: {' '.join(self.suites)}\n"
            f"Components: {' '.join(self.components)}\nSigned-By: {self.signed_by or _KEYRING}\n"
        )


def host_suite(os_release: Path = Path("/etc/os-release")) -> str:
    """This host's Debian suite; :data:`DEFAULT_SUITE` on any other system."""
    if not os_release.exists():
        return DEFAULT_SUITE
    fields = dict(line.split("=", 1) for line in os_release.read_text().splitlines() if "=" in line)
    codename = fields.get("VERSION_CODENAME", "").strip("\"'")
    return codename if fields.get("ID", "").strip("\"'") == "debian" and codename else DEFAULT_SUITE


def debian_sources(suite: str, etc_apt: Path = _ETC_APT) -> str:
    """The deb822 text a build of ``suite`` installs from.

    The host's Debian archives for that suite where it has any (with its updates and security suites); otherwise the
    mirror the host uses for its own suite. On a host with no Debian archive at all the text is empty, and mmdebstrap
    takes the mirrors it knows for the suite.
    """
    ours = [source for source in read_sources(etc_apt) if _is_debian(source)]
    wanted = [narrowed for source in ours if (narrowed := _narrow(source, suite))]
    if not wanted:
        mirror = next((source for source in ours if not any("security" in uri for uri in source.uris)), None)
        wanted = [Source(uris=mirror.uris, suites=(suite,), components=("main",))] if mirror else []
    return "\n".join(source.stanza() for source in wanted)


def read_sources(etc_apt: Path) -> list[Source]:
    """Every enabled binary archive in ``sources.list`` and ``sources.list.d``."""
    folder = etc_apt / "sources.list.d"
    found: list[Source] = []
    for path in [etc_apt / "sources.list", *sorted(folder.glob("*.list"))]:
        if path.is_file():
            found.extend(_parse_lines(path.read_text().splitlines()))
    for path in sorted(folder.glob("*.sources")):
        found.extend(_parse_deb822(path.read_text()))
    return found


def without_credentials(text: str) -> str:
    """``text`` with every ``user:password@`` taken out of its URIs."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", text)


def _is_debian(source: Source) -> bool:
    """Signed with Debian's keyring; an archive that names no keyring counts when its path is Debian's."""
    if source.signed_by:
        return Path(source.signed_by).name.startswith("debian-archive-")
    return any(re.search(r"/debian(-security)?/?$", uri) for uri in source.uris)


def _narrow(source: Source, suite: str) -> Source | None:
    suites = tuple(name for name in source.suites if name in (suite, f"{suite}-updates", f"{suite}-security"))
    return Source(source.uris, suites, source.components, source.signed_by) if suites else None


def _parse_lines(lines: Iterable[str]) -> Iterator[Source]:
    for line in lines:
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if not match:
            continue
        options = dict(item.split("=", 1) for item in (match["options"] or "").split() if "=" in item)
        yield Source(
            uris=(match["uri"],),
            suites=(match["suite"],),
            components=tuple(match["components"].split()),
            signed_by=options.get("signed-by", ""),
        )


def _parse_deb822(text: str) -> Iterator[Source]:
    for block in re.split(r"\n[ \t]*\n", text):
        fields = _fields(block)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        yield Source(
            uris=tuple(fields.get("uris", "").split()),
            suites=tuple(fields.get("suites", "").split()),
            components=tuple(fields.get("components", "").split()),
            signed_by=signed_by if signed_by.startswith("/") and len(signed_by.split()) == 1 else "",
        )


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in block.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and last:
            fields[last] += f" {line.strip()}"
        elif ":" in line:
            name, value = line.split(":", 1)
            last = name.strip().lower()
            fields[last] = value.strip()
    return fields
