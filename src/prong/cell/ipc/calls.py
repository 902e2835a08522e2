"""Import this module to register every system call of the package in :data:`prong.cell.core.table.TABLE`."""

from prong.cell.ipc import (
    calls_anon,
    calls_epoll,
    calls_message,
    calls_pipe,
    calls_poll,
    calls_select,
    calls_socket,
    calls_sockopt,
)

MODULES = (
    calls_anon,
    calls_epoll,
    calls_message,
    calls_pipe,
    calls_poll,
    calls_select,
    calls_socket,
    calls_sockopt,
)
