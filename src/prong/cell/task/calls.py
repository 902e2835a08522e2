"""Importing this module puts every system call of ``prong.cell.task`` into the table."""

from prong.cell.task import (
    futexcalls,
    identity,
    limitcalls,
    refused,
    schedcalls,
    sendcalls,
    sigcalls,
    system,
    threads,
    timecalls,
    timercalls,
)

__all__ = [
    "futexcalls",
    "identity",
    "limitcalls",
    "refused",
    "schedcalls",
    "sendcalls",
    "sigcalls",
    "system",
    "threads",
    "timecalls",
    "timercalls",
]
