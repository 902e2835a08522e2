"""SIGINT stops user code, never the runtime, and never the wrong run."""

from __future__ import annotations

import random

import pytest

from prong.cell.results import Execution
from prong.cell.runtime_messages import Finished, InterruptIgnored, Ping, Pong
from tests.guest.harness import GuestProcess
from tests.guest.strict import RunCollector

SEED = 20240607
FOREVER = [
    "while True: pass",
    "n = 0\nwhile True:\n    n += 1\n    [i for i in range(10)]",
    "import time\ntime.sleep(1000)",
    "input()",
    "import asyncio\nawait asyncio.sleep(1000)",
    "import threading\nthreading.Event().wait()",
    "class Slow:\n    def __repr__(self):\n        while True: pass\nSlow()",
    "def f():\n    while True:\n        display(1, raw=False)\nf()",
    "while True:\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        pass",
    "print('x', flush=True)\nwhile True: print(end='', flush=True)",
]


def finish_interrupted(guest: GuestProcess, collector: RunCollector, run_id: int) -> Execution:
    """Wait for the end as an engine does: ask again when the interrupt came before the run."""
    while True:
        message = guest.wait_message()
        if isinstance(message, InterruptIgnored):
            if message.last_id < run_id:
                guest.interrupt()
        elif collector.message(message):
            guest.drain_output()
            return collector.execution()


@pytest.mark.parametrize("mode", ["cell", "script"])
@pytest.mark.parametrize("code", FOREVER)
def test_everything_endless_can_be_interrupted(runtime: GuestProcess, code: str, mode: str) -> None:
    if mode == "script":
        code = code.replace("await asyncio.sleep(1000)", "asyncio.run(asyncio.sleep(1000))")
        code = code.replace("\nSlow()", "\nrepr(Slow())")
    collector = runtime.start("print('go', flush=True)\n" + code, mode=mode)
    run_id = runtime._next_id
    runtime.wait_output(b"go\n")
    runtime.interrupt()
    execution = finish_interrupted(runtime, collector, run_id)
    assert execution.exit_code == 130
    assert execution.error is not None and execution.error.name == "KeyboardInterrupt"
    assert runtime.run("1 + 1").text == "2"


def test_random_moments(runtime: GuestProcess) -> None:
    """An interrupt at any moment of short and endless runs: ends the one it was for, or none."""
    rng = random.Random(SEED)
    outcomes = {0: 0, 130: 0}
    for turn in range(200):
        endless = rng.random() < 0.5
        code = "while True: pass" if endless else f"display({turn})\nsum(range({rng.randrange(20_000)}))\n{turn}"
        collector = runtime.start(code, mode="cell")
        run_id = runtime._next_id
        for _ in range(rng.randrange(1500)):  # a short, uneven wait without asking the clock
            pass
        runtime.interrupt()
        execution = finish_interrupted(runtime, collector, run_id)
        outcomes[execution.exit_code] += 1
        assert execution.exit_code == 130 or (not endless and execution.text == str(turn))
        if rng.random() < 0.3:
            runtime.interrupt()  # late: nothing runs
        after = runtime.run(f"{turn} * 2")
        assert after.ok and after.text == str(turn * 2), (turn, after)
    assert outcomes[130] >= 50, outcomes


def test_idle_interrupt_is_answered(fresh: GuestProcess) -> None:
    fresh.interrupt()
    message = fresh.wait_message()
    assert message == InterruptIgnored(last_id=0)
    fresh.run("1")
    fresh.interrupt()
    assert fresh.wait_message() == InterruptIgnored(last_id=1)


def test_user_code_may_catch_it(runtime: GuestProcess) -> None:
    collector = runtime.start("try:\n    print('go')\n    while True: pass\nexcept KeyboardInterrupt:\n    print('no')\n5")
    runtime.wait_output(b"go\n")
    runtime.interrupt()
    execution = runtime.finish(collector)
    assert (execution.exit_code, execution.text, execution.stdout) == (0, "5", "go\nno\n")


def test_await_cleans_up(runtime: GuestProcess) -> None:
    code = (
        "import asyncio\n"
        "try:\n    print('go')\n    await asyncio.sleep(1000)\n"
        "finally:\n    await asyncio.sleep(0)\n    print('cleaned')"
    )
    collector = runtime.start(code)
    runtime.wait_output(b"go\n")
    runtime.interrupt()
    execution = runtime.finish(collector)
    assert execution.exit_code == 130 and execution.stdout == "go\ncleaned\n"
    assert runtime.run("await asyncio.sleep(0, 1)").text == "1"


def test_own_signal_by_user_code(runtime: GuestProcess) -> None:
    execution = runtime.run("import signal\nsignal.raise_signal(signal.SIGINT)\n'not reached'")
    assert execution.exit_code == 130 and execution.text is None


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "lambda *a: print('mine')"])
def test_replaced_handler_lasts_for_its_run(runtime: GuestProcess, handler: str) -> None:
    runtime.run(f"import signal\nsignal.signal(signal.SIGINT, {handler})")
    collector = runtime.start("print('go')\nwhile True: pass")
    runtime.wait_output(b"go\n")
    runtime.interrupt()
    assert runtime.finish(collector).exit_code == 130


def test_script_waiting_for_its_thread(runtime: GuestProcess) -> None:
    """The interrupt comes once the main thread is known to wait: before, it would only end the program's last line."""
    code = """
import builtins, sys, threading
stop = threading.Event()
builtins.stop_it = stop.set
main = threading.main_thread().ident
def wait():
    while sys._current_frames()[main].f_code.co_name not in ("join", "_wait_for_tstate_lock"):
        stop.wait(0.001)
    print("waits", flush=True)
    stop.wait()
threading.Thread(target=wait).start()
"""
    collector = runtime.start(code, mode="script")
    runtime.wait_output(b"waits\n")
    runtime.interrupt()
    assert runtime.finish(collector).exit_code == 130
    assert runtime.run("stop_it()").ok


def test_stream_stays_in_order_while_threads_display(fresh: GuestProcess) -> None:
    """Threads display while runs come and are interrupted: every frame is whole, every run ends once."""
    fresh.run(
        "import threading, time\nhalt = False\n"
        "def chat(n):\n    while not halt:\n        display('x' * 1000, n)\n        time.sleep(0.0005)\n"
        "threads = [threading.Thread(target=chat, args=(i,), daemon=True) for i in range(3)]\n"
        "for t in threads: t.start()"
    )
    rng = random.Random(SEED)
    for turn in range(60):
        collector = fresh.start("for i in range(3): display(i)\nwhile True: pass")
        run_id = fresh._next_id
        for _ in range(rng.randrange(3000)):
            pass
        fresh.interrupt()
        assert finish_interrupted(fresh, collector, run_id).exit_code == 130, turn
    assert fresh.run("halt = True\nfor t in threads: t.join()").ok
    fresh.messages.clear()
    fresh.send(Ping(id=fresh.next_id()))
    assert isinstance(fresh.wait_message(), Pong)
    assert not any(isinstance(message, Finished) for message in fresh.messages)
