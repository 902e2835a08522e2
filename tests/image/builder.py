"""Builds one image in a process of its own, for tests that kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from prong.image import ImageSpec, ImageStore, debian
from prong.store.paths import Paths

if __name__ == "__main__":
    debian.choose_mode = lambda: "fakechroot"
    print(ImageStore(Paths(Path(sys.argv[1]))).build(ImageSpec(name="tiny")).digest)
