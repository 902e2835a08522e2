"""Boot specs: how the Python runtime and other programs are started in a fresh cell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from prong.cell.host.spec import CONTROL_FD, BootSpec, Identity
from prong.cell.limits import Limits
from prong.guest.messages import CONTROL_FD_VARIABLE
from prong.guest.pack import INSTALL_DIRECTORY, runtime_files, start_command
from prong.image.manifest import Image

WARM_TIMEOUT = 300.0
WARM_PATH = "/usr/lib/prong/warm.py"
PYTHON = "/usr/bin/python3"

DEFAULT_WARM = """\
import asyncio, base64, bisect, collections, contextlib, copy, csv, dataclasses, datetime, decimal, functools, glob
import hashlib, heapq, io, itertools, json, logging, math, operator, os, pathlib, pickle, random, re, shutil
import statistics, string, struct, subprocess, sys, tempfile, textwrap, threading, time, traceback, typing, uuid, zlib
try:
    import numpy as np
    np.random.default_rng(0).random((64, 64)) @ np.ones((64, 64))
    import pandas as pd
    pd.DataFrame({"a": [1, 2]}).describe().to_html()
    import matplotlib.pyplot as plt
    plt.figure()
    plt.plot([1, 2])
    plt.savefig(io.BytesIO(), format="png")
    plt.close("all")
    del np, pd, plt
except ImportError:
    pass
"""
"""What the default template imports before it is snapshotted."""

BASE_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}


@dataclass(frozen=True)
class Program:
    """A program of an image to run: argument vector (argv[0] is its path), environment additions, working directory.

    ``files`` are put into the cell before it starts: (absolute path, content, mode).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    files: tuple[tuple[str, bytes, int], ...] = ()


def _environment(image: Image, extra: Mapping[str, str]) -> tuple[bytes, ...]:
    merged = {**BASE_ENVIRONMENT, **image.manifest.env, **extra}
    return tuple(os.fsencode(f"{k}={v}") for k, v in merged.items())


def runtime_spec(image: Image, warm: str, limits: Limits) -> BootSpec:
    """Boot the image's Python with prong's runtime and a warm-up."""
    files = [(f"{INSTALL_DIRECTORY}/{name}", content) for name, content in runtime_files().items()]
    files.append((WARM_PATH, warm.encode()))
    return BootSpec(
        path=PYTHON.encode(),
        argv=tuple(a.encode() for a in start_command(PYTHON, WARM_PATH)),
        environ=_environment(image, {CONTROL_FD_VARIABLE: str(CONTROL_FD)}),
        cwd=b"/root",
        files=tuple((path.encode(), content, 0o644) for path, content in files),
        control=True,
        limits=asdict(limits),
        identity=Identity.fresh(0).pack(),
    )


def program_spec(image: Image, program: Program, limits: Limits) -> BootSpec:
    """Boot any program of the image."""
    return BootSpec(
        path=os.fsencode(program.argv[0]),
        argv=tuple(os.fsencode(a) for a in program.argv),
        environ=_environment(image, program.env),
        cwd=os.fsencode(program.cwd),
        files=tuple((os.fsencode(path), content, mode) for path, content, mode in program.files),
        control=False,
        limits=asdict(limits),
        identity=Identity.fresh(0).pack(),
    )
