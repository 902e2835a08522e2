"""The vocabulary of the control stream, shared by the runtime inside and the decoder outside.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON, one object with the key ``type``. Binary data
is base64 text; JSON data is carried as JSON *text*, so frames stay flat however deep a user's data is.

Requests (host to guest); every one has ``id``, a positive integer the host never uses twice:

=============  =======================================================================================================
``run``        ``nonce`` text; ``mode`` cell|script|file; ``code`` text, or ``filename`` for mode file; optional
               ``context`` (cell: default ``main``; script, file: default a fresh namespace), ``env`` {name: value or
               null}, ``cwd``, ``argv`` list, ``filename``, ``display_limit`` bytes, ``announce`` bool,
               ``own_input`` bool (what it leaves unread of stdin is not for the next run), ``fork``
               {seed, generation, info}: keep the fork contract first, and run nothing when that fails
``fork``       ``seed`` at least 32 bytes as hex; ``generation`` text; ``info`` object shown by ``prong.info()``
``contexts``   ``op`` create|list|remove|reset; ``name`` (all but list); ``cwd`` (create)
``complete``   ``code`` text, ``cursor`` characters, ``context``
``ping``       nothing more
=============  =======================================================================================================

Events (guest to host); those that answer a request repeat its ``id``:

=====================  ===============================================================================================
``ready``              once, when warmed and idle: ``protocol``, ``python`` version text, ``packages`` warmed modules
``warm_failed``        instead of ready: ``error`` (an error object); the runtime then exits with status 1
``started``            if announce: ``nonce``, ``execution_count``
``display``            ``bundle``; ``id`` is null when no run is active (a thread that outlived its run)
``result``             ``nonce``, ``bundle`` of the last expression
``error``              ``nonce``, ``error``
``finished``           ``nonce``, ``exit_code`` 0..255, ``execution_count``: last frame of a run, restored and flushed
``forked``             ``ok``; ``error`` if not; ``id`` null when a live fork (signal) caused it
``contexts``           ``contexts``: list of {name, execution_count, cwd}
``completed``          ``matches`` list of text, ``start``, ``end``: what of the code they replace, in characters
``pong``               nothing more
``interrupt_ignored``  ``id`` null, ``last_id``: a SIGINT came while no run was active; last_id is the last finished
``refused``            ``code`` (bad_request, unknown_context, context_exists), ``message``: nothing was done
=====================  ===============================================================================================

A *bundle* is ``{"data": {mime: text}, "omitted": {mime: reason}, "metadata": {…}}``. An *error object* is ``{"name",
"value", "traceback": [{"file", "line", "function", "source"}], "formatted", "syntax"?: {"file", "line", "column",
"end_line", "end_column", "text"}}``.
"""

from __future__ import annotations

PROTOCOL = 1
HEADER = 4
MAX_FRAME = 8 * 1024 * 1024
"""Largest JSON part of a frame, bytes, both ways. The host ends a sandbox that announces more."""
MIN_SEED = 32

CONTROL_FD_VARIABLE = "PRONG_CONTROL_FD"
EXCHANGE = 0x50520002
"""An ioctl of the control stream; its argument is two 64-bit numbers, a size and an address: writes that many bytes from
there, waits for input, puts it there too, and returns its size. (fcntl.ioctl keeps the GIL for arguments over 1024 bytes:
with the bytes themselves as argument no other thread would run while the runtime waits.)"""
FORK_SIGNAL = 64
"""SIGRTMAX on Linux: tells a live fork, in the middle of running code, that it is one."""
GENERATION_FILE = "/run/prong/generation"
MAIN_CONTEXT = "main"

RUN = "run"
FORK = "fork"
CONTEXTS = "contexts"
COMPLETE = "complete"
PING = "ping"

READY = "ready"
WARM_FAILED = "warm_failed"
STARTED = "started"
DISPLAY = "display"
RESULT = "result"
ERROR = "error"
FINISHED = "finished"
FORKED = "forked"
COMPLETED = "completed"
PONG = "pong"
INTERRUPT_IGNORED = "interrupt_ignored"
REFUSED = "refused"

MODE_CELL = "cell"
MODE_SCRIPT = "script"
MODE_FILE = "file"
MODES = (MODE_CELL, MODE_SCRIPT, MODE_FILE)

BAD_REQUEST = "bad_request"
UNKNOWN_CONTEXT = "unknown_context"
CONTEXT_EXISTS = "context_exists"
REFUSALS = (BAD_REQUEST, UNKNOWN_CONTEXT, CONTEXT_EXISTS)

TEXT_MIME = "text/plain"
HTML_MIME = "text/html"
MARKDOWN_MIME = "text/markdown"
SVG_MIME = "image/svg+xml"
PNG_MIME = "image/png"
LATEX_MIME = "text/latex"
JSON_MIME = "application/json"
DATA_MIME = "application/vnd.prong.data+json"
"""A table as ``{column: [values]}``, JSON text."""

DEFAULT_DISPLAY_LIMIT = 1024 * 1024
MAX_BUNDLE = 7 * 1024 * 1024
"""Most bytes of data one bundle carries; the rest of the frame is room for names and escapes."""
EXIT_INTERRUPTED = 130
