"""Futexes (futex(2)): queues of threads by address, and the list of locks a dying thread leaves behind.

One address space, so a key is simply the address. A waiter's record stays in its queue over spurious wake-ups; the
waker takes it out and marks it, so each wake is consumed exactly once whatever makes the blocked handler run again.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.core.memory import GuestMemory
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

WAITERS, OWNER_DIED, TID_MASK = 0x80000000, 0x40000000, 0x3FFFFFFF
MATCH_ANY = 0xFFFFFFFF
ROBUST_LIMIT = 2048
ROBUST_HEAD_SIZE = 24


@saved("futex_waiter")
class Waiter:
    """One thread in a futex wait. ``pi``: it waits to own a lock. ``woken`` is set by the waker, once."""

    __slots__ = ("address", "bitset", "deadline", "pi", "task", "woken")

    def __init__(self, task: Task, address: int, bitset: int, deadline: int | None, pi: bool = False) -> None:
        self.task = task
        self.address = address
        self.bitset = bitset
        self.deadline = deadline
        self.pi = pi
        self.woken = False


@saved("futexes")
class Futexes:
    """All futex waiters of the process, oldest first per address."""

    def __init__(self) -> None:
        self.queues: dict[int, deque[Waiter]] = {}

    def wait(
        self, task: Task, address: int, bitset: int, deadline: int | None, *, pi: bool = False, restart: bool = True
    ) -> Wait:
        """Enqueue ``task`` (its record goes to ``task.scratch``) and return the Wait to raise."""
        waiter = Waiter(task, address, bitset, deadline, pi)
        self.queues.setdefault(address, deque()).append(waiter)
        task.scratch = waiter
        return Wait(deadline=deadline, restart=restart)

    def resume(self, task: Task) -> int:
        """What a waiting handler does when it runs again: 0 if woken, ETIMEDOUT if expired, else wait on."""
        waiter: Waiter = task.scratch
        if waiter.woken:
            return 0
        if task.expired:
            self.remove(waiter)
            raise SysErr(errno.ETIMEDOUT)
        raise Wait(deadline=waiter.deadline, restart=waiter.pi or waiter.deadline is None)

    def wake(self, address: int, count: int, bitset: int = MATCH_ANY) -> int:
        """Wake up to ``count`` waiters whose bitset meets ``bitset``; returns how many. EINVAL for lock waiters."""
        queue = self.queues.get(address)
        if queue is None:
            return 0
        chosen = []
        for waiter in queue:
            if waiter.bitset & bitset:
                if waiter.pi:
                    raise SysErr(errno.EINVAL)
                chosen.append(waiter)
                if len(chosen) >= count:
                    break
        for waiter in chosen:
            self.release(waiter)
        return len(chosen)

    def requeue(self, source: int, target: int, wake: int, move: int) -> int:
        """Wake up to ``wake`` waiters and move up to ``move`` others to ``target``; returns the total."""
        total = self.wake(source, wake) if wake > 0 else 0
        queue = self.queues.get(source)
        if queue is None or source == target:
            return total + min(move, len(queue or ()))
        if any(waiter.pi for waiter in queue):
            raise SysErr(errno.EINVAL)
        other = self.queues.setdefault(target, deque())
        while queue and move > 0:
            waiter = queue.popleft()
            waiter.address = target
            other.append(waiter)
            move -= 1
            total += 1
        for address in (source, target):
            if not self.queues[address]:
                del self.queues[address]
        return total

    def release(self, waiter: Waiter) -> None:
        """Take one waiter out and make its thread go on."""
        self.remove(waiter)
        waiter.woken = True
        waiter.task.wake()

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out of its queue, if it is in one."""
        queue = self.queues.get(waiter.address)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        if not queue:
            del self.queues[waiter.address]

    def abandon(self, scratch: object) -> bool:
        """A signal ends the blocked call with this scratch. Returns whether the call must start again (lock waits)."""
        if not isinstance(scratch, Waiter):
            return False
        self.remove(scratch)
        return scratch.pi

    # -- locks with an owner ----------------------------------------------------------------------------------------

    def lock(self, kernel: Kernel, task: Task, address: int, deadline: int | None, *, wait: bool) -> int:
        """FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI: the word holds the owner's thread id; priorities are not inherited."""
        word = kernel.mem.u32(address)
        owner = word & TID_MASK
        if owner == 0:
            more = WAITERS if address in self.queues else 0
            kernel.mem.put_u32(address, task.tid | more | (word & OWNER_DIED))
            return 0
        if owner == task.tid:
            raise SysErr(errno.EDEADLK)
        if owner not in kernel.sched.tasks:
            raise SysErr(errno.ESRCH)
        if not wait:
            raise SysErr(errno.EAGAIN)
        if any(not waiter.pi for waiter in self.queues.get(address, ())):
            raise SysErr(errno.EINVAL)
        kernel.mem.put_u32(address, word | WAITERS)
        raise self.wait(task, address, MATCH_ANY, deadline, pi=True)

    def unlock(self, mem: GuestMemory, task: Task, address: int) -> int:
        """FUTEX_UNLOCK_PI: hand the lock to the oldest waiter. EPERM if the caller does not own it."""
        if mem.u32(address) & TID_MASK != task.tid:
            raise SysErr(errno.EPERM)
        if address & 3:
            raise SysErr(errno.EINVAL)
        self.hand_over(mem, address, 0)
        return 0

    def hand_over(self, mem: GuestMemory, address: int, died: int) -> None:
        """Give an owned lock to its oldest waiter, or free it; ``died`` is OWNER_DIED or 0."""
        queue = self.queues.get(address)
        first = queue[0] if queue else None
        if first is None or not first.pi:
            mem.put_u32(address, died)
            return
        more = WAITERS if queue is not None and len(queue) > 1 else 0
        mem.put_u32(address, first.task.tid | more | died)
        self.release(first)

    # -- a thread's end ---------------------------------------------------------------------------------------------

    def walk_robust_list(self, mem: GuestMemory, task: Task) -> None:
        """Mark every lock on the dying thread's robust list (get_robust_list(2)) as OWNER_DIED; wake one waiter each.

        The list is the program's: a bad pointer ends the walk, a cycle stops at 2048 entries.
        """
        head = task.robust_list[0]
        if not head:
            return
        try:
            offset, pending = mem.u64(head + 8), mem.u64(head + 16)
            entry = mem.u64(head)
            for _ in range(ROBUST_LIMIT):
                if entry & ~1 == head:
                    break
                following = mem.u64(entry & ~1)
                if entry & ~1 != pending & ~1:
                    self._owner_died(mem, task, (entry & ~1) + offset, pi=bool(entry & 1), pending=False)
                entry = following
            if pending & ~1:
                self._owner_died(mem, task, (pending & ~1) + offset, pi=bool(pending & 1), pending=True)
        except SysErr:
            return  # futex(2) promises no more: what the list does not reach is not released

    def _owner_died(self, mem: GuestMemory, task: Task, address: int, *, pi: bool, pending: bool) -> None:
        address &= 0xFFFFFFFFFFFFFFFF
        if address & 3:
            raise SysErr(errno.EFAULT)
        word = mem.u32(address)
        if pending and not pi and word == 0:
            self.wake(address, 1)
            return
        if word & TID_MASK != task.tid:
            return
        if pi:
            self.hand_over(mem, address, OWNER_DIED)
            return
        mem.put_u32(address, (word & WAITERS) | OWNER_DIED)
        if word & WAITERS:
            self.wake(address, 1)
