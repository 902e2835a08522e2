"""Debian roots by mmdebstrap(1): from the host's own archives, without root where the host allows it."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prong.errors import HostUnfit
from prong.image.events import BuildEvent, Progress, Stage
from prong.image.manifest import Package
from prong.image.process import Runner
from prong.image.sources import without_credentials
from prong.image.spec import ImageSpec

Mode = Literal["root", "unshare", "fakechroot"]

# Host apt settings that decide whether its archives can be reached and believed; everything else of them stays outside.
_PASSED_APT = re.compile(r"Acquire::(?:(?:https?|ftp)::|Retries|Check-Valid-Until|Check-Date|ForceIPv[46])\S* \"[^\"]+\";")
# Left by the tools themselves, different for each build, and of no use inside.
_JUNK = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/machine-id",
    "etc/resolv.conf",
    "var/lib/dbus/machine-id",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
)
_JUNK_INSIDE = ("var/log", "var/cache/apt", "var/cache/debconf", "var/lib/apt/lists", "var/cache/fontconfig")
_OLD_FILES = ("var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/available-old")


def choose_mode() -> Mode:
    """How mmdebstrap can work for this user: root, a user namespace with subordinate ids, or fakechroot.

    Raises:
        HostUnfit: mmdebstrap is not installed, or none of the three is possible.
    """
    if not shutil.which("mmdebstrap"):
        raise HostUnfit("mmdebstrap is not installed", hint="apt install mmdebstrap")
    if os.geteuid() == 0:
        return "root"
    if shutil.which("newuidmap") and _has_subordinate_ids(Path("/etc/subuid")) and _namespaces_work():
        return "unshare"
    if shutil.which("fakechroot") and shutil.which("fakeroot"):
        return "fakechroot"
    raise HostUnfit(
        "this user cannot build Debian roots: no user namespace with subordinate ids, and no fakechroot",
        hint="apt install uidmap and add this user to /etc/subuid and /etc/subgid (usermod --add-subuids), or "
        "apt install fakechroot fakeroot",
    )


def _has_subordinate_ids(subuid: Path) -> bool:
    if not subuid.is_file():
        return False
    uid = os.geteuid()
    names = {str(uid)} | {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid}
    return any(line.split(":", 1)[0] in names for line in subuid.read_text().splitlines())


def _namespaces_work() -> bool:
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False)
    return probe.returncode == 0


def mmdebstrap_version() -> str:
    """What ``mmdebstrap --version`` prints, without the program's name."""
    printed = subprocess.run(["mmdebstrap", "--version"], capture_output=True, text=True, check=True).stdout
    return printed.split()[-1]


def bootstrap(
    spec: ImageSpec, *, mode: Mode, suite: str, sources: str, output: Path, runner: Runner, progress: Progress
) -> None:
    """Write a tar of a Debian root with ``spec.packages`` to ``output``.

    Args:
        spec: what to install.
        mode: from :func:`choose_mode`.
        suite: the Debian suite.
        sources: deb822 text of the archives to install from; empty for mmdebstrap's own choice.
        output: the tar to write; its directory also takes a file beside it.
        runner: runs and logs mmdebstrap.
        progress: told what mmdebstrap says.

    Raises:
        BuildFailed: mmdebstrap failed.
    """
    argv = [*_mmdebstrap(mode), "--variant=apt"]
    if spec.packages:
        argv.append(f"--include={','.join(spec.packages)}")
    argv += [f"--aptopt={line}" for line in host_apt_options()]
    argv += [suite, str(output)]
    if sources:
        source_file = output.with_suffix(".sources")
        source_file.write_text(sources)
        source_file.chmod(0o644)
        argv.append(str(source_file))
    runner.run(
        argv,
        on_line=_Bootstrap(progress).line,
        what=f"building the Debian root of {spec.name!r}",
    )


def run_commands(spec: ImageSpec, *, mode: Mode, before: Path, output: Path, runner: Runner, progress: Progress) -> None:
    """Run ``spec.run`` inside the root in the tar ``before`` and write the outcome as the tar ``output``.

    Each command is a ``sh -eu -c`` of its own, with the spec's environment and working directory and with the host's
    network.

    Raises:
        BuildFailed: a command ended with another status than 0; the later ones did not run.
    """
    argv = [*_mmdebstrap(mode), "--variant=custom", "--skip=update,cleanup/apt,cleanup/reproducible"]
    argv.append(f"--setup-hook=tar-in {shlex.quote(str(before))} /")
    settings = [f"{name}={value}" for name, value in {"HOME": "/root", **spec.env}.items()]
    for command in spec.run:
        shown = shlex.quote(f"prong-run: {command}".replace("\n", " "))
        inside = ["env", f"--chdir={spec.workdir}", *settings, "/bin/sh", "-euc", command]
        argv.append(f'--customize-hook=echo {shown}; chroot "$1" {shlex.join(inside)}')

    def line(text: str) -> None:
        progress(BuildEvent(Stage.RUN, text.removeprefix("prong-run: ")))

    runner.run([*argv, "", str(output), ""], on_line=line, what=f"a command of {spec.name!r}")


def _mmdebstrap(mode: Mode) -> list[str]:
    argv = ["mmdebstrap", "--verbose", f"--mode={mode}", "--format=tar", "--skip=output/dev"]
    if mode == "root":
        # mmdebstrap mounts /proc, /sys and /dev into the root: in a mount namespace they cannot outlive it.
        return ["unshare", "--mount", "--propagation", "private", "--", *argv]
    return argv


def host_apt_options() -> list[str]:
    """The host's own apt settings (proxies, certificates, retries) that a build needs too, in apt.conf(5) form."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return [line for line in dump.splitlines() if _PASSED_APT.fullmatch(line)]


@dataclass
class _Bootstrap:
    """Turns mmdebstrap's verbose output into events."""

    progress: Progress
    stage: Stage = Stage.RESOLVE
    total: int = 0
    fetched: int = 0
    done: int = 0
    _marks: dict[str, Stage] = field(
        default_factory=lambda: {
            "I: downloading packages": Stage.DOWNLOAD,
            "I: extracting archives": Stage.INSTALL,
            "I: installing essential": Stage.INSTALL,
            "I: installing remaining": Stage.INSTALL,
            "I: creating tarball": Stage.UNPACK,
        }
    )

    def line(self, text: str) -> None:
        for mark, stage in self._marks.items():
            if text.startswith(mark):
                self.stage = stage
        if new := re.search(r"(\d+) newly installed", text):
            self.total += int(new[1])
        if text.startswith("Get:") and self.stage is not Stage.RESOLVE:
            self.fetched += 1
            self._tell(Stage.DOWNLOAD, text, self.fetched)
        elif text.startswith(("Setting up ", "Unpacking ")):
            self.done += 1
            self._tell(Stage.INSTALL, text, self.done / 2)
        else:
            self.progress(BuildEvent(self.stage, text.removeprefix("I: ")))

    def _tell(self, stage: Stage, text: str, count: float) -> None:
        self.progress(BuildEvent(stage, text, min(count / self.total, 1.0) if self.total else None))


def clean(root: Path) -> None:
    """Take out what differs between two builds of the same packages, or tells about this host."""
    for relative in (*_JUNK, *_OLD_FILES):
        (root / relative).unlink(missing_ok=True)
    for relative in _JUNK_INSIDE:
        _empty(root / relative)
    # Present and empty: the fork contract writes them anew (machine-id(5), resolv.conf(5)).
    for name in ("machine-id", "resolv.conf"):
        (root / "etc" / name).write_text("")
    (root / "etc/hostname").write_text("prong\n")
    # passwd(1)'s date of the last change is the day of the build.
    shadow = root / "etc/shadow"
    if shadow.is_file():
        shadow.write_text(re.sub(r"(?m)^([^:]*:[^:]*):\d+:", r"\1:19000:", shadow.read_text()))
        (root / "etc/shadow-").unlink(missing_ok=True)
    for source in (root / "etc/apt/sources.list.d").glob("*"):
        source.write_text(without_credentials(source.read_text()))


def _empty(directory: Path) -> None:
    """Remove all files below a directory; its sub-directories stay, since programs expect to find them."""
    if not directory.is_dir() or directory.is_symlink():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _empty(entry)
        else:
            entry.unlink()


def installed_packages(root: Path) -> tuple[Package, ...]:
    """What the root's dpkg database lists as installed, sorted by name; nothing for a root without one."""
    status = root / "var/lib/dpkg/status"
    if not status.is_file():
        return ()
    found = []
    for stanza in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"(Package|Version|Status): ", line))
        if fields.get("Status", "").endswith(" installed"):
            found.append(Package(kind="deb", name=fields["Package"], version=fields["Version"]))
    return tuple(sorted(found, key=lambda package: package.name))
