"""Closing the jail: one frozen spec in, the layers in the one order that works, a report of what holds out.

The order matters. The image's root is stepped into while the caller can still reach it; the uid is given up before
the user namespace is made, so that root and an ordinary user take the same path from there; the PID namespace needs a
fork; mounts need capabilities, so those go after the pivot; the death signal is set last, since every change of
credentials clears it.
"""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from prong.cell.jail import capabilities, cgroup, descriptors, imports, init, namespaces, rlimits
from prong.cell.jail.cgroup import Cgroup, CgroupLimits
from prong.cell.jail.hostfit import building
from prong.cell.jail.layers import Fact, Layer
from prong.cell.jail.namespaces import Identity
from prong.cell.jail.rlimits import Rlimits
from prong.cell.jail.seccomp import Policy, Seal
from prong.errors import HostUnfit, InvalidInput, Json


class Degradation(enum.StrEnum):
    """A layer the caller agrees to do without, if and only if the host cannot give it."""

    NO_USER_NAMESPACE = "no_user_namespace"  # only when started by root, who can make the other namespaces without it
    NO_CGROUP_NAMESPACE = "no_cgroup_namespace"
    NO_CGROUP = "no_cgroup"
    NO_NESTING_LIMIT = "no_nesting_limit"  # where /proc/sys cannot be written; follows from NO_USER_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class JailSpec:
    """What a jail is to be.

    Attributes:
        root: the image's root directory; all the file system there is. Nothing may be mounted below it.
        policy: the seccomp filter of the hosts; see :func:`~prong.cell.jail.policy.vmm_policy`.
        keep_fds: the descriptors that come along; 0, 1 and 2 lead to ``/dev/null`` unless they are among them.
        identity: the uid and gid to run as; needed when started by root, and only then.
        rlimits: of every process in the jail.
        cgroup: limits of all of them together, if wanted; the report says which cgroup was made, its removal is the
            caller's after the jail ended.
        allow: layers that may be missing.
        hostname: the node name in the jail.
    """

    root: Path
    policy: Policy
    keep_fds: frozenset[int]
    identity: Identity | None = None
    rlimits: Rlimits = field(default_factory=Rlimits)
    cgroup: CgroupLimits | None = None
    allow: frozenset[Degradation] = frozenset()
    hostname: str = "cell"


@dataclass(frozen=True, slots=True)
class JailReport:
    """What holds.

    Attributes:
        facts: one or more for each layer, checked after it was set up.
        missing: the allowed degradations that had to be taken.
        cgroup: the one that was made.
        milliseconds: what each part of :func:`enter` took.
    """

    facts: tuple[Fact, ...]
    missing: frozenset[Degradation]
    cgroup: Cgroup | None
    milliseconds: dict[str, float]

    def as_json(self) -> dict[str, Json]:
        """``{facts: [{layer, detail}], missing, cgroup: [path], milliseconds}``."""
        return {
            "facts": [{"layer": fact.layer.value, "detail": fact.detail} for fact in self.facts],
            "missing": [item.value for item in sorted(self.missing)],
            "cgroup": [str(path) for path in self.cgroup.directories] if self.cgroup else [],
            "milliseconds": {name: round(value, 3) for name, value in self.milliseconds.items()},
        }


@dataclass(frozen=True, slots=True)
class Jail:
    """A closed jail, seen from its pid 1: what holds, and the filter its forks put on."""

    report: JailReport
    filter: Seal

    def seal(self) -> None:
        """Installs the seccomp filter in this process, which all its forks inherit, before a guest's byte is read.

        Called once in the spawner, before its first fork, every host is born sealed and pays nothing; the spawner then
        lives under the filter too. Called in each host instead, it costs each one the translation of the filter into
        machine code, some tenths of a millisecond. Never twice: under the filter there is no adding another.

        Raises:
            HostUnfit: the kernel refused. The process is not sealed and must end.
        """
        with building(Layer.SECCOMP):
            self.filter.install()


# What every report must contain; the others are conditional.
_REQUIRED = frozenset(Layer) - {Layer.CGROUP, Layer.SECCOMP}
_DEGRADABLE = {
    Degradation.NO_USER_NAMESPACE: Layer.USER_NAMESPACE,
    Degradation.NO_CGROUP_NAMESPACE: Layer.CGROUP_NAMESPACE,
    Degradation.NO_CGROUP: Layer.CGROUP,
    Degradation.NO_NESTING_LIMIT: Layer.NESTING,
}


def enter(spec: JailSpec) -> Jail:
    """Closes the jail around the calling process. **Returns in a new process**, pid 1 of the jail; the caller's own
    process never returns: it becomes the guardian (see :mod:`prong.cell.jail.init`).

    The process must have one thread, hold no secret in its memory (start it with an empty environment), and have called
    :func:`~prong.cell.jail.imports.preload`.

    Raises:
        InvalidInput: the spec does not fit: root, descriptors or identity.
        HostUnfit: a layer cannot be had; code ``jail_unfit``, ``data["layer"]`` names it. The process may be half
            jailed and must end; it may still report over its descriptors.
    """
    closing = _Closing(spec)
    closing.before_fork()
    lifeline = init.become_init(closing.shed)
    closing.lap("fork")
    closing.after_fork(lifeline)
    return Jail(closing.report(), closing.filter)


class _Closing:
    """The steps of :func:`enter` and what they have found so far."""

    def __init__(self, spec: JailSpec) -> None:
        self.spec = spec
        self.facts: list[Fact] = []
        self.missing: set[Degradation] = set()
        self.cgroup: Cgroup | None = None
        self.milliseconds: dict[str, float] = {}
        self._clock = time.perf_counter()
        self.identity = self._identity()
        self.filter = Seal(spec.policy)
        self.lap("compile")

    def lap(self, name: str) -> None:
        """Books the time since the last call under ``name``."""
        now = time.perf_counter()
        self.milliseconds[name] = (now - self._clock) * 1000
        self._clock = now

    def _identity(self) -> Identity | None:
        """The identity to change to; ``None`` for an ordinary user, who keeps his own."""
        root = os.geteuid() == 0
        if root and self.spec.identity is None:
            raise InvalidInput(
                "a jail started by root needs an unprivileged identity to run as",
                hint="set JailSpec.identity",
                data={"field": "identity"},
            )
        if not root and self.spec.identity not in (None, Identity(os.geteuid(), os.getegid())):
            raise InvalidInput(f"uid {os.geteuid()} cannot become {self.spec.identity}", data={"field": "identity"})
        return self.spec.identity if root else None

    def before_fork(self) -> None:
        """Everything that the host must still be visible for."""
        spec = self.spec
        descriptors.check(spec.keep_fds)
        self.root = namespaces.step_into(spec.root)
        self.null = descriptors.open_null()
        self._join_cgroup()
        self.lap("prepare")
        self.in_user_namespace = not self._must_do_without_user_namespace()
        if self.in_user_namespace:
            self._become()
            self.facts.append(namespaces.enter_user_namespace())
        self.lap("user_namespace")
        self.facts += namespaces.leave_the_rest(without=self._without())
        self.lap("namespaces")

    def after_fork(self, lifeline: init.Lifeline) -> None:
        """In pid 1 of the jail."""
        spec = self.spec
        if os.getpid() == 1:
            self.facts.append(Fact(Layer.PID_NAMESPACE, "pid 1"))
        self.facts.append(imports.close())
        namespaces.hide_host_name(spec.hostname)
        tree = namespaces.read_only_copy()
        self._forbid_nesting()  # between the last mount namespace the kernel makes, for the copy, and the loss of /proc
        namespaces.pivot(tree)
        self.lap("root")
        keep = spec.keep_fds | {lifeline.fd}
        descriptors.close_all_but(keep, self.null)
        self.shed()
        with building(Layer.RLIMITS):
            self.facts.append(rlimits.apply(spec.rlimits))
        with building(Layer.DEATH):
            lifeline.arm()
        self.facts.append(Fact(Layer.DEATH, "dies with its guardian, and all processes of the jail with it"))
        self.lap("privileges")

    def shed(self) -> None:
        """Gives up every privilege left; the guardian does so too."""
        with building(Layer.CAPABILITIES):
            capabilities.drop_bounding()
        if not self.in_user_namespace:
            self._become()
        with building(Layer.CAPABILITIES):
            capabilities.drop_all()

    def report(self) -> JailReport:
        """Reads back what can be read back.

        Raises:
            HostUnfit: a layer was set up without an error and yet does not hold.
        """
        self.facts += (
            *namespaces.verify_root(self.root),
            *capabilities.verify(),
            descriptors.describe(self.spec.keep_fds),
        )
        excused = {_DEGRADABLE[item] for item in self.missing}
        required = _REQUIRED | ({Layer.CGROUP} if self.spec.cgroup else set())
        absent = sorted(required - excused - {fact.layer for fact in self.facts})
        if absent:
            raise HostUnfit(
                f"the jail's layer {absent[0].value} was set up but does not hold",
                code="jail_unfit",
                data={"layer": absent[0].value},
            )
        self.lap("verify")
        return JailReport(tuple(self.facts), frozenset(self.missing), self.cgroup, self.milliseconds)

    def _become(self) -> None:
        if self.identity:
            self.facts.append(namespaces.become(self.identity))
        else:
            self.facts.append(Fact(Layer.IDENTITY, f"{namespaces.whoami()}: the caller's own"))
        namespaces.check_readable(self.spec.root)

    def _may_miss(self, item: Degradation) -> bool:
        """Takes the degradation if it is allowed."""
        if item in self.spec.allow:
            self.missing.add(item)
        return item in self.spec.allow

    def _must_do_without_user_namespace(self) -> bool:
        if self.identity is None or Degradation.NO_USER_NAMESPACE not in self.spec.allow:
            return False
        return not namespaces.user_namespace_works(self.identity) and self._may_miss(Degradation.NO_USER_NAMESPACE)

    def _forbid_nesting(self) -> None:
        if not self.in_user_namespace:  # the switches would be the host's own
            self.missing.add(Degradation.NO_NESTING_LIMIT)
            return
        try:
            self.facts.append(namespaces.forbid_nesting())
        except HostUnfit:
            if not self._may_miss(Degradation.NO_NESTING_LIMIT):
                raise

    def _without(self) -> frozenset[Layer]:
        lacking = not namespaces.cgroup_namespace_exists() and self._may_miss(Degradation.NO_CGROUP_NAMESPACE)
        return frozenset({Layer.CGROUP_NAMESPACE} if lacking else ())

    def _join_cgroup(self) -> None:
        if self.spec.cgroup is None:
            return
        try:
            self.cgroup = cgroup.create(self.spec.cgroup)
        except HostUnfit:
            if not self._may_miss(Degradation.NO_CGROUP):
                raise
            return
        with building(Layer.CGROUP):
            self.cgroup.join(os.getpid())
        self.facts += cgroup.verify(self.cgroup, self.spec.cgroup, os.getpid())
