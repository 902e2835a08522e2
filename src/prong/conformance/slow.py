"""The modules that ``--fast`` leaves out: more than five seconds each, together most of the time."""

from __future__ import annotations

SLOW = frozenset(
    (
        "test_argparse",
        "test_asyncio",
        "test_bufio",
        "test_bz2",
        "test_compile",
        "test_concurrent_futures",
        "test_docxmlrpc",
        "test_email",
        "test_ftplib",
        "test_glob",
        "test_imaplib",
        "test_lib2to3",
        "test_logging",
        "test_lzma",
        "test_multiprocessing_fork",
        "test_multiprocessing_forkserver",
        "test_multiprocessing_spawn",
        "test_pickle",
        "test_poplib",
        "test_pydoc",
        "test_queue",
        "test_random",
        "test_runpy",
        "test_socket",
        "test_statistics",
        "test_thread",
        "test_trace",
        "test_venv",
        "test_weakref",
        "test_xmlrpc",
        "test_zipfile",
    )
)
