"""Images: the read-only root file systems that sandboxes start from.

Words:
    image: an unpacked tree of files plus a manifest, named by its digest.
    spec: what an image should hold (Debian packages, pip requirements, files, commands); a YAML file or a built-in
        name.
    digest: SHA-256 over a normalised listing of the tree and its settings. Same content, same digest, on any host.
    tag: a name a person gives to a digest. An image may have several, or none.
    key: SHA-256 of a resolved spec; it finds the image an earlier build of the same spec made.
    staging: where a build works; renamed into place at the end, swept away when its builder died.

Everything in an image's tree is readable by anyone, so that a jailed, unprivileged process can use it; there are no
device nodes and no setuid bits, and owners are not kept: inside a sandbox every file appears as root's.

May touch: the images directory, and programs that build roots (mmdebstrap, pip). Knows nothing of sandboxes.
Start reading at :mod:`prong.image.store`, then :mod:`prong.image.spec`.
"""

from __future__ import annotations

from prong.image.events import BuildEvent, Progress, Stage, silent
from prong.image.manifest import Image, Manifest, Package
from prong.image.spec import FileEntry, ImageSpec, builtin_names, load_spec
from prong.image.store import ImageStore

__all__ = [
    "BuildEvent",
    "FileEntry",
    "Image",
    "ImageSpec",
    "ImageStore",
    "Manifest",
    "Package",
    "Progress",
    "Stage",
    "builtin_names",
    "load_spec",
    "silent",
]
