"""One look at the host: every fact read, every check made, in the order a person reads them."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prong.doctor import cells, facts, images
from prong.doctor.check import Check, Status
from prong.doctor.namespaces import try_namespaces
from prong.kvm.probe import kvm_verdict
from prong.store.paths import Paths


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one look at the host."""

    checks: tuple[Check, ...]

    @property
    def cells(self) -> bool:
        """Whether cells can run here: nothing failed."""
        return all(check.status is not Status.FAIL for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """``{"cells": bool, "checks": [{name, status, found, advice}, …]}``."""
        return {"cells": self.cells, "checks": [check.as_json() for check in self.checks]}


def examine(data: Path | None = None) -> Report:
    """Look at this host. Takes up to a few seconds: namespaces and KVM are really tried.

    Args:
        data: the directory prong keeps its data in; by default the one it really uses.

    Raises:
        InvalidInput: ``data`` is not given and ``PRONG_HOME`` is no absolute path.
    """
    if platform.system() != "Linux":  # nothing below means anything elsewhere
        return Report((cells.check_kernel(platform.system(), platform.release()),))
    place = data or Paths.resolve().home
    return Report(tuple(make() for make in (*_cell_checks(), *_supply_checks(place))))


def _cell_checks() -> tuple[Callable[[], Check], ...]:
    user = _user()
    shm = Path("/dev/shm")
    return (
        lambda: cells.check_cpu(facts.read_cpu()),
        lambda: cells.check_kernel(platform.system(), platform.release()),
        lambda: cells.check_kvm_device(facts.read_kvm_device(), user),
        lambda: cells.check_kvm_usable(kvm_verdict()),
        lambda: cells.check_namespaces(try_namespaces()),
        lambda: cells.check_seccomp(facts.read_seccomp_actions()),
        lambda: cells.check_cgroups(facts.read_cgroups()),
        lambda: cells.check_mappings(facts.read_max_map_count()),
        lambda: cells.check_limits(facts.read_limits()),
        lambda: cells.check_memory(facts.read_memory()),
        lambda: cells.check_shm(facts.read_space(shm) if shm.is_dir() else None),
        lambda: cells.check_python(sys.version_info[:3]),
    )


def _supply_checks(data: Path) -> tuple[Callable[[], Check], ...]:
    return (
        lambda: images.check_disk(facts.read_space(data)),
        lambda: images.check_mmdebstrap(facts.program_version("mmdebstrap")),
        lambda: images.check_subordinate_ids(
            facts.read_subordinate_ids(_user(), os.geteuid()),
            newuidmap=shutil.which("newuidmap") is not None and shutil.which("newgidmap") is not None,
        ),
        lambda: images.check_qemu(facts.program_version("qemu-system-x86_64")),
    )


def _user() -> str:
    """The user's name, or number if there is none (getpass raises OSError; KeyError before 3.13)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.geteuid())
