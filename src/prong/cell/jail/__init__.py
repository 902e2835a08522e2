"""The jail of the host process that carries a cell: what is left to a VMM that guest code has taken over.

A cell's guest runs at CPL3 in its own KVM VM and its system calls are answered by memory-safe Python. This room assumes
that this was not enough: that hostile code runs *as the VMM*. It may then do what the layers below leave, and no more.

Glossary
    spawner      the small single-threaded process of one template that forks the hosts of its cells; pid 1 of the jail
    host         a forked child of the spawner, or of another host; under the filter before it reads guest bytes
    guardian     the process that called :func:`enter`; it only waits for the spawner, whose parent it is
    layer        one independent obstacle (:class:`Layer`): namespaces, root, capabilities, rlimits, seccomp …
    identity     the unprivileged uid and gid the jail runs as
    seal         the seccomp filter, compiled once in the spawner, installed with one system call, inherited by forks
    degradation  a layer the caller explicitly agreed to do without on a host that cannot give it

How a spawner uses it (single-threaded, its environment empty, its modules imported)::

    preload()                                  # what Python imports lazily
    jail = enter(spec)                         # returns in a new process: pid 1 of the jail
    jail.seal()                                # every host is born sealed
    if os.fork() == 0: ...                     # a host
    for exit in reap(): ...                    # pid 1 adopts orphans: call it on SIGCHLD or in the loop

The modules: ``jail`` (spec, enter, seal) rests on ``namespaces``, ``capabilities``, ``descriptors``, ``rlimits``,
``cgroup``, ``imports``, ``init`` (pid 1) and on ``seccomp`` (rules, installing), ``bpf`` (the assembler), ``policy``
(what a VMM may call), ``sysno`` (numbers). ``hostfit`` turns a refusal of the host into a hint. Only Linux on x86-64.
This room touches no other room of prong but ``prong.errors``.
"""

from prong.cell.jail.cgroup import CgroupLimits
from prong.cell.jail.imports import preload
from prong.cell.jail.init import Exit, reap
from prong.cell.jail.jail import Degradation, Jail, JailReport, JailSpec, enter
from prong.cell.jail.layers import Fact, Layer
from prong.cell.jail.namespaces import Identity
from prong.cell.jail.policy import vmm_policy
from prong.cell.jail.probe import probe
from prong.cell.jail.rlimits import Rlimits
from prong.cell.jail.seccomp import Policy, Rule, Seal

__all__ = [
    "CgroupLimits",
    "Degradation",
    "Exit",
    "Fact",
    "Identity",
    "Jail",
    "JailReport",
    "JailSpec",
    "Layer",
    "Policy",
    "Rlimits",
    "Rule",
    "Seal",
    "enter",
    "preload",
    "probe",
    "reap",
    "vmm_policy",
]
