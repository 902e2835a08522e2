"""Import this module to register every system call of the package in :data:`prong.cell.core.table.TABLE`."""

from __future__ import annotations

import prong.cell.ipc.calls_anon
import prong.cell.ipc.calls_epoll
import prong.cell.ipc.calls_message
import prong.cell.ipc.calls_pipe
import prong.cell.ipc.calls_poll
import prong.cell.ipc.calls_select
import prong.cell.ipc.calls_socket
import prong.cell.ipc.calls_sockopt  # noqa: F401
