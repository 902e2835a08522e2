"""prong: fork virtual machines like processes, and run agents in them.

Words
    image       a read-only root file system: what is installed
    template    an image with a warmed, snapshotted state: what sandboxes are forked from
    sandbox     what a user holds: one forked VM with an id, limits and a lifetime
    cell        a sandbox whose VM holds one Linux process and no guest kernel
    fork        a new sandbox from a template, a snapshot or a live sandbox

The packages are layers; imports point only down: cli > client, server > agents > sandbox, gateway, doctor > cell,
machine > kvm, image, guest, wire > store, telemetry > errors, version. Each package's docstring is its glossary.
"""

from prong.version import __version__

__all__ = ["__version__"]
