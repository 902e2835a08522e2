"""Threads of the one process a cell runs, who runs next, signals, futexes and time.

Words
-----
Task        one thread: its registers while it is not on the CPU, its signal state, what it waits for.
Scheduler   which task runs on the cell's one virtual CPU; ready, blocked, and time slices.
Clock       the cell's own time: monotonic time stands still while a cell is stored, real time does not.
Timer       something due at a cell time: sleeps, timeouts, POSIX timers, timer descriptors.
action      what the program wants done about a signal: a handler, nothing, or the default.
pending     sent but not handled yet; of one thread (``Task.pending``) or of the process (``Signals.pending``).
deliverable pending, not blocked, and for this thread to take; looked at before every return to the program.
frame       what a handler finds on the stack: the interrupted context, which rt_sigreturn restores.
fault       a CPU exception turned into a signal that cannot wait.
futex       an address threads sleep on; the waker takes them out of the queue, exactly once each.

The contract with the run loop
------------------------------
1. While a handler, ``deliver`` or ``fault`` runs, ``task.regs`` holds the program's registers: rip after the
   ``syscall`` instruction, rax still the call's number, rdi…r9 its arguments. clone, clone3, sigaltstack and
   rt_sigreturn read them; rt_sigreturn, ``deliver`` and ``fault`` replace all of them, rcx and r11 included.
   ``fs_base`` and ``gs_base`` may change in any call.
2. A handler that returns (or raises SysErr) ends the call: put the result in ``task.regs[0]``, forget ``scratch`` and
   ``expired``, and call ``signals.restore_mask(task)`` if ``task.saved_sigmask`` is not None. Then, as before every
   return to the program: ``if signals.deliverable(task): signals.deliver(kernel, task)`` with ``task.call`` None.
3. A handler that raises Wait: set ``task.call``, copy ``restart`` and ``partial`` to the task, and *before parking* ask
   ``signals.deliverable(task)`` (a call such as sigsuspend may just have unblocked a pending signal). If so call
   ``deliver``: it leaves ``task.call`` None if a handler is to run, and the program goes on with ``task.regs``; if it
   leaves ``task.call`` set nothing is to run, so park. Otherwise park at once with ``task.block``.
4. A woken task with ``task.call`` set *runs its handler again first*, whatever woke it, and then 2 or 3 applies.
   Calling ``deliver`` first would lose a futex wake or bytes that came together with the signal, and nanosleep's rest.
5. After every handler, ``deliver`` and ``fault``: the task may be DEAD, and ``process.exit_status`` set.
6. After adding a slice to the CPU times: ``signals.tick(kernel, task)``; after time passed: ``clock.run_due()``.

Host code interrupts the program with ``signals.post(SIGINT)``. ``calls.py`` registers the system calls.

Start reading at ``task.py``, then ``signals.py`` and ``delivery.py``.
"""
