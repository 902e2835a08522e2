"""Timers that send signals: setitimer's three, and timer_create's, on real or on CPU time.

A timer on real time sits in the Clock's heap. One that counts CPU time has no heap entry: :func:`tick` compares it with
the CPU time used, after each time slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.process import RLIM_INFINITY, RLIMIT_CPU
from prong.cell.task.siginfo import (
    SI_KERNEL,
    SI_TIMER,
    SIGALRM,
    SIGKILL,
    SIGPROF,
    SIGVTALRM,
    SIGXCPU,
    SignalInfo,
)
from prong.cell.task.timespec import SECOND

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.clock import Clock, TimerEntry
    from prong.cell.task.signals import Signals
    from prong.cell.task.task import Task

ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = 0, 1, 2
ITIMER_SIGNALS = {ITIMER_REAL: SIGALRM, ITIMER_VIRTUAL: SIGVTALRM, ITIMER_PROF: SIGPROF}
SHORTEST = 50_000
"""Nanoseconds at least between two expiries of a repeating timer, so that one cannot keep the cell from its program."""
OVERRUN_MAX = 0x7FFFFFFF
TIMER_LIMIT = 1024


@saved("ticker")
class Ticker:
    """A deadline that may repeat, on cell monotonic time or (``cpu``) on CPU time of the process or of thread ``tid``.

    ``deadline`` is in nanoseconds of that clock, 0 while disarmed. Subclasses say what happens in :meth:`expire`.
    """

    def __init__(self, clock: Clock, signals: Signals, *, cpu: bool = False, tid: int = 0) -> None:
        self.clock = clock
        self.signals = signals
        self.cpu = cpu
        self.tid = tid
        self.deadline = 0
        self.interval = 0
        self.entry: TimerEntry | None = None

    def arm(self, deadline: int, interval: int) -> None:
        """Expire at ``deadline`` and then every ``interval`` ns (0: once); a deadline of 0 disarms."""
        if self.entry is not None:
            self.entry.cancelled = True
            self.entry = None
        self.deadline, self.interval = deadline, interval
        if deadline and not self.cpu:
            self.entry = self.clock.arm(deadline, self)

    def due(self, now: int) -> None:
        """The deadline has come (Clock's callback, or the tick's for CPU time)."""
        self.entry = None
        missed = 0
        deadline, interval = self.deadline, self.interval
        if interval:
            missed = (now - deadline) // interval
            following = deadline + (missed + 1) * interval
            self.arm(max(following, now + SHORTEST) if interval < SHORTEST else following, interval)
        else:
            self.deadline = 0
        self.expire(missed)

    def expire(self, missed: int) -> None:
        """Something is due; ``missed`` further expiries have gone by unnoticed."""
        raise NotImplementedError

    def remaining(self, now: int) -> int:
        """Nanoseconds until it expires, at least 1 while armed, 0 when disarmed."""
        return max(self.deadline - now, 1) if self.deadline else 0


@saved("real_timer")
class RealTimer(Ticker):
    """One of setitimer(2)'s three timers, named by its ITIMER number."""

    def __init__(self, which: int, clock: Clock, signals: Signals) -> None:
        super().__init__(clock, signals, cpu=which != ITIMER_REAL)
        self.which = which

    def expire(self, missed: int) -> None:
        """Send the timer's signal to the process."""
        sig = ITIMER_SIGNALS[self.which]
        self.signals.post(sig, None, SignalInfo(sig, SI_KERNEL))


@saved("posix_timer")
class PosixTimer(Ticker):
    """A timer of timer_create(2). ``signo`` 0: expires silently. ``target``: thread id to signal, 0 for the process.

    ``info`` is the signal sent last; while it is still queued, further expiries only count as its overrun.
    """

    def __init__(
        self, ident: int, clockid: int, signo: int, value: int, target: int, clock: Clock, signals: Signals
    ) -> None:
        super().__init__(clock, signals)
        self.ident = ident
        self.clockid = clockid
        self.signo = signo
        self.value = value
        self.target = target
        self.info: SignalInfo | None = None
        self.delivered = 0

    def expire(self, missed: int) -> None:
        """Queue the signal, or count an overrun if the last one has not been taken yet."""
        if not self.signo:
            return
        if self.info is not None and self.info.queued:
            self.info.overrun = min(self.info.overrun + missed + 1, OVERRUN_MAX)
            return
        self.delivered = self.info.overrun if self.info is not None else 0
        info = SignalInfo(self.signo, SI_TIMER, value=self.value)
        info.timerid, info.overrun = self.ident, min(missed, OVERRUN_MAX)
        task = self.signals.sched.tasks.get(self.target) if self.target else None
        if self.target and task is None:
            return
        self.info = info
        self.signals.post(self.signo, task, info)

    def overrun(self) -> int:
        """timer_getoverrun(2): of the expiry whose signal was taken last."""
        if self.info is None:
            return 0
        return self.delivered if self.info.queued else self.info.overrun


def count_cpu_timers(kernel: Kernel) -> None:
    """Recount ``process.cpu_timers`` after any timer, or the CPU time limit, has changed."""
    process = kernel.process
    tickers: list[Ticker] = [*process.alarms.values(), *process.timers.values()]
    process.cpu_timers = sum(1 for t in tickers if t.cpu and t.deadline)
    if process.rlimits[RLIMIT_CPU] != (RLIM_INFINITY, RLIM_INFINITY):
        process.cpu_timers += 1


def tick(kernel: Kernel, task: Task) -> None:
    """Called by the run loop after a time slice of ``task`` was added to the CPU times: expire what counts CPU time."""
    process = kernel.process
    if not process.cpu_timers:
        return
    now = kernel.cpu.cpu_time(None)
    tickers: list[Ticker] = [*process.alarms.values(), *process.timers.values()]
    for ticker in tickers:
        if ticker.cpu and ticker.deadline:
            other = kernel.sched.tasks.get(ticker.tid) if ticker.tid else None
            spent = kernel.cpu.cpu_time(other) if other is not None else now
            if spent >= ticker.deadline and (other is not None or not ticker.tid):
                ticker.due(spent)
    _check_cpu_limit(kernel, now)
    count_cpu_timers(kernel)


def _check_cpu_limit(kernel: Kernel, now: int) -> None:
    """RLIMIT_CPU (getrlimit(2)): SIGXCPU at the soft limit and each second after, SIGKILL at the hard one."""
    soft, hard = kernel.process.rlimits[RLIMIT_CPU]
    if hard != RLIM_INFINITY and now >= hard * SECOND:
        kernel.signals.post(SIGKILL)
    elif soft != RLIM_INFINITY and now >= soft * SECOND:
        kernel.signals.post(SIGXCPU)
        kernel.process.rlimits[RLIMIT_CPU] = (now // SECOND + 1, hard)
