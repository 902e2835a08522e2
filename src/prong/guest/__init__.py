"""Programs that run inside a sandbox: standard library only, Python 3.9 or newer, nothing of prong above this package.

The Python runtime of a cell lives here. It is packed by :mod:`prong.guest.pack` into one directory of the image
(``/usr/lib/prong/runtime``), where the package is called ``prong_guest``; the name ``prong`` is kept for the small
module user code may import (see :mod:`prong.guest.usermodule`).

Words:

- *request*, *event*: one JSON frame to the runtime, one from it (:mod:`prong.guest.messages` has the table).
- *run*: one execution of code, in mode ``cell`` (statements in a context), ``script`` or ``file`` (a program).
- *context*: a persistent namespace with its own execution count and event loop, what a notebook calls a kernel.
- *guard*: the one frame in which everything user code raises stops (:mod:`prong.guest.interrupts`).
- *rehearsal*: runs done before the snapshot so that the first real one finds every page and cache warm.

Start reading at :mod:`prong.guest.runtime`, then :mod:`prong.guest.runs`. ``boot.py`` explains how the runtime keeps
its own copies of what it depends on, so that user code which deletes builtins or patches ``json`` hurts only itself.

What users may notice: output is written at every line end; tasks of a context's event loop go on only while a run of
that context awaits; trace and profile functions end with their run; after it the recursion limit is at least 1000 and
the handlers of SIGINT and SIGRTMAX are the runtime's again. A signal handler of Python runs between two steps of the
main thread, so neither an interrupt nor a live fork's reseeding takes effect inside a long call into C.

What this cannot do: user code shares an interpreter with the runtime, so code that sets out to walk frames or use
``ctypes`` can read the runtime's memory and forge its frames. It gains nothing that ``sys.exit(0)`` would not give it;
nothing outside the cell may trust a frame further than the sandbox itself. The decoder outside
(:mod:`prong.cell.runtime_protocol`) therefore treats every byte as hostile.
"""
