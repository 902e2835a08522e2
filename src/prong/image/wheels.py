"""Python packages from wheels, chosen for the image's interpreter and installed into its tree from outside.

pip runs on the host, so that the user's own configuration (indexes, certificates, local directories) applies, and
only downloads; ``installer`` (PyPA) then lays the wheels out below ``/usr/local``, where Debian's Python looks first.
Nothing of a package runs on the host: source distributions, whose build would, are refused.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile

from prong.errors import BuildFailed, HostUnfit, InvalidInput
from prong.image import tree
from prong.image.debian import installed_packages
from prong.image.events import BuildEvent, Progress, Stage
from prong.image.manifest import Package
from prong.image.process import Runner

_WHEEL_TIME = 315532800  # 1980-01-01, the oldest a zip archive can say
_OLDEST_MANYLINUX = 5  # PEP 600: manylinux_2_5 is manylinux1


@dataclass(frozen=True, slots=True)
class Target:
    """The interpreter in the image.

    Attributes:
        version: such as "3.11".
        glibc_minor: the N of glibc 2.N, which bounds the manylinux tags (PEP 600).
    """

    version: str
    glibc_minor: int

    @classmethod
    def of(cls, root: Path) -> Target:
        """Read it from a Debian root.

        Raises:
            InvalidInput: the root has no Debian Python.
        """
        link = root / "usr/bin/python3"
        name = os.readlink(link) if link.is_symlink() else ""
        libc = next((package.version for package in installed_packages(root) if package.name == "libc6"), "")
        python, glibc = re.fullmatch(r"python(3\.\d+)", name), re.match(r"2\.(\d+)", libc)
        if not python or not glibc:
            raise InvalidInput(
                "pip requirements need Debian's Python in the image",
                hint="add python3 to packages",
                data={"field": "pip"},
            )
        return cls(version=python[1], glibc_minor=int(glibc[1]))

    def tags(self) -> list[str]:
        """pip's options for the wheels this interpreter can load."""
        machine = os.uname().machine
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(self.glibc_minor, _OLDEST_MANYLINUX - 1, -1)]
        platforms += [f"{legacy}_{machine}" for legacy in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
        abis = [f"cp{self.version.replace('.', '')}", "abi3", "none"]
        return [
            f"--python-version={self.version}",
            "--implementation=cp",
            *(f"--abi={abi}" for abi in abis),
            *(f"--platform={platform}" for platform in platforms),
        ]


def install_requirements(
    requirements: tuple[str, ...], root: Path, *, work: Path, runner: Runner, progress: Progress
) -> tuple[Package, ...]:
    """Install requirement lines into the tree and return what was installed.

    Args:
        requirements: lines as pip reads them.
        root: the image's tree.
        work: an empty directory for the wheels.
        runner: runs and logs pip.
        progress: told what pip says.

    Raises:
        InvalidInput: the image has no Python.
        HostUnfit: no interpreter of the image's version with pip on this host.
        BuildFailed: pip found no fitting wheels, or a wheel cannot be laid out.
    """
    target = Target.of(root)
    python = _host_python(target.version)
    listing = work / "requirements.txt"
    listing.write_text("".join(f"{line}\n" for line in requirements))
    wheels = work / "wheels"
    wheels.mkdir()

    def line(text: str) -> None:
        progress(BuildEvent(Stage.PIP, text))

    download = [python, "-m", "pip", "download", "--no-input", "--progress-bar=off", "--only-binary=:all:"]
    runner.run(
        [*download, *target.tags(), f"--dest={wheels}", f"--requirement={listing}"],
        on_line=line,
        what="downloading the pip requirements",
    )
    installed = tuple(_install_wheel(path, root, target) for path in sorted(wheels.glob("*.whl")))
    # A wheel may carry files that are not meant for this Python (templates, tests of syntax errors); those stay
    # uncompiled, and the log says which.
    progress(BuildEvent(Stage.PIP, "compiling"))
    library = root / "usr/local/lib" / f"python{target.version}/dist-packages"
    for relative, _ in tree.walk(library):
        # Compiled files will carry these times, so they must not depend on the day of the build.
        os.utime(library / relative, (_WHEEL_TIME, _WHEEL_TIME), follow_symlinks=False)
    compile_all = [python, "-m", "compileall", "-q", "--invalidation-mode=checked-hash", "-s", str(root), "-p", "/"]
    runner.run(["sh", "-c", '"$@" || echo "some files stay uncompiled"', "sh", *compile_all, str(library)],
               on_line=line, what="compiling Python files")  # fmt: skip
    return installed


def _host_python(version: str) -> str:
    """A host interpreter of this version that has pip: markers (PEP 508) are evaluated by the one pip runs on."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in ([sys.executable] if running == version else []) + [shutil.which(f"python{version}") or ""]:
        if (
            candidate
            and subprocess.run([candidate, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    raise HostUnfit(
        f"pip requirements of this image need Python {version} with pip on this host",
        hint=f"apt install python{version} python3-pip, or name Debian's python3-... packages instead",
    )


def _install_wheel(path: Path, root: Path, target: Target) -> Package:
    library = f"/usr/local/lib/python{target.version}/dist-packages"
    try:
        with WheelFile.open(path) as wheel:
            scheme = {
                "purelib": library,
                "platlib": library,
                "headers": f"/usr/local/include/python{target.version}/{wheel.distribution}",
                "scripts": "/usr/local/bin",
                "data": "/usr/local",
            }
            destination = SchemeDictionaryDestination(
                scheme, interpreter="/usr/bin/python3", script_kind="posix", destdir=str(root)
            )
            install(wheel, destination, additional_metadata={"INSTALLER": b"prong\n"})
            return Package(kind="wheel", name=wheel.distribution, version=wheel.version)
    except (InstallerError, FileExistsError, ValueError) as error:
        raise BuildFailed(f"{path.name} cannot be installed: {error}", data={"log": [], "wheel": path.name}) from error
