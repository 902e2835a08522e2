"""The fork contract inside: what is reseeded, who is called, and what happens when that fails."""

from __future__ import annotations

import os
import random

import pytest

from prong.cell.runtime_messages import Forked, ForkFacts
from prong.errors import InvalidInput
from prong.guest import messages as m
from tests.guest.harness import SEED, GuestProcess, guest

WARM = """
import random, tempfile, uuid, ssl, multiprocessing, secrets
try:
    import numpy
    numpy.random.seed(1)
except ImportError:
    numpy = None
random.seed(1)
own = random.Random(1)
tempfile.gettempdir()
next(tempfile._get_candidate_names())
uuid.uuid1()
"""
DRAW = """
import multiprocessing, uuid, tempfile
[random.random(), uuid.uuid1().node, uuid.uuid1().clock_seq, next(tempfile._get_candidate_names()),
 multiprocessing.current_process().authkey.hex(), numpy and numpy.random.random()]
"""


def draw(seed: bytes) -> list[object]:
    """What a fork of the warmed template with this seed draws."""
    with guest(warm=WARM) as process:
        answer = process.fork(seed=seed, generation="g")
        assert isinstance(answer, Forked) and answer.ok, answer
        text = process.run(DRAW).text
        assert text is not None
        return list(eval(text))  # a list of literals our own code printed


def test_everything_is_distinct_and_repeatable_where_seeded() -> None:
    """Two seeds: all differ. The same seed twice: random and numpy repeat, so the seed is what made them."""
    first, second, third = draw(b"a" * 64), draw(b"b" * 64), draw(b"a" * 64)
    for mine, other in zip(first, second, strict=True):
        assert mine != other or mine is None
    assert first[0] == third[0] and first[-1] == third[-1]
    assert first[0] != first[-1], "random and numpy share an algorithm and must not share a seed"


def test_program_owned_generators_are_left_alone() -> None:
    with guest(warm=WARM) as process:
        process.fork()
        assert process.run("own.random()").text == repr(random.Random(1).random())


def test_callbacks_generation_and_info(fresh: GuestProcess) -> None:
    fresh.run(
        "import prong\nseen = []\n@prong.on_fork\ndef first(): seen.append(('first', prong.generation()))\n"
        "prong.on_fork(lambda: seen.append('second'));"
    )
    answer = fresh.fork(generation="gen-7", info={"sandbox": "s1"})
    assert answer == Forked(id=2, error=None)
    assert fresh.run("seen").text == "[('first', 'gen-7'), 'second']"
    assert fresh.run("prong.info()").text == "{'sandbox': 's1', 'generation': 'gen-7'}"
    assert fresh.run("first()\nlen(seen)").text == "3", "the decorator gives the function back"


def test_on_fork_wants_a_callable(runtime: GuestProcess) -> None:
    error = runtime.run("import prong\nprong.on_fork(3)").error
    assert error is not None and error.name == "TypeError" and len(error.traceback) == 1


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit(0)", "raise KeyboardInterrupt"])
def test_failing_callback_fails_the_fork(fresh: GuestProcess, body: str) -> None:
    fresh.run(f"import prong\n@prong.on_fork\ndef broken():\n    {body}\n")
    answer = fresh.fork()
    assert isinstance(answer, Forked) and not answer.ok and answer.error is not None
    assert answer.error.traceback[-1].function == "broken"


def test_run_with_fork_keeps_the_contract_first(fresh: GuestProcess) -> None:
    fresh.run("import prong, random\nseen = []\nprong.on_fork(lambda: seen.append(1))\nrandom.seed(5)\n'ok'")
    before = fresh.writes
    execution = fresh.run("seen, prong.generation(), random.random()", fork=ForkFacts(SEED, "g2"))
    assert execution.text is not None and execution.text.startswith("([1], 'g2', ")
    assert repr(random.Random(5).random()) not in execution.text
    assert fresh.writes == before + 1, "forked, result and finished leave in one write"


def test_run_with_failing_fork_runs_nothing(fresh: GuestProcess) -> None:
    fresh.run("import prong\n@prong.on_fork\ndef broken(): 1 / 0")
    fresh.start("print('ran')", fork=ForkFacts(SEED))
    answer = fresh.wait_message()
    assert isinstance(answer, Forked) and not answer.ok and answer.id == 2
    assert fresh.run("'next'").stdout == ""


def test_short_seed_is_refused_on_both_sides(fresh: GuestProcess) -> None:
    with pytest.raises(InvalidInput):
        ForkFacts(b"short")
    facts = ForkFacts(SEED)
    object.__setattr__(facts, "seed", b"short")
    fresh.start("1", fork=facts)
    answer = fresh.wait_message()
    assert isinstance(answer, Forked) and not answer.ok


def signalled(process: GuestProcess) -> Forked:
    """Send the live fork's signal and wait for its answer."""
    process.process.send_signal(m.FORK_SIGNAL)
    answer = process.wait_message()
    assert isinstance(answer, Forked), answer
    return answer


def test_live_fork_in_the_middle_of_code(fresh: GuestProcess) -> None:
    collector = fresh.start(
        "import prong, random, signal\nhooks = 0\ndef hook():\n    global hooks\n    hooks += 1\nprong.on_fork(hook)\n"
        "random.seed(3)\nprint('go')\nn = 0\nwhile hooks < 5: n += 1\nhooks, random.random()"
    )
    fresh.wait_output(b"go\n")
    for _ in range(5):
        assert signalled(fresh) == Forked(id=None, error=None)
    text = fresh.finish(collector).text
    assert text is not None and text.startswith("(5, ") and repr(random.Random(3).random()) not in text


def test_live_fork_while_idle(fresh: GuestProcess) -> None:
    assert signalled(fresh).ok
    assert fresh.run("1").text == "1"


def test_live_fork_with_a_failing_callback(fresh: GuestProcess) -> None:
    collector = fresh.start("import prong\nprong.on_fork(lambda: 1 / 0)\nprint('go')\ninput()")
    fresh.wait_output(b"go\n")
    answer = signalled(fresh)
    assert answer.error is not None and answer.error.name == "ZeroDivisionError"
    fresh.interrupt()
    assert fresh.finish(collector).exit_code == 130


def test_live_forks_between_the_frames_being_written(fresh: GuestProcess) -> None:
    """The signal lands in the middle of the main thread's own writes: frames stay whole and all are answered."""
    collector = fresh.start("print('go')\nfor i in range(3000): display('x' * 2000)\n'end'")
    fresh.wait_output(b"go\n")
    sent, answered, displays, finished = 0, 0, 0, False
    while not finished:
        if sent == answered and sent < 100:
            fresh.process.send_signal(m.FORK_SIGNAL)
            sent += 1
        message = fresh.wait_message()
        if isinstance(message, Forked):
            assert message.ok
            answered += 1
        else:
            displays += 1
            finished = collector.message(message)
    while answered < sent:
        assert isinstance(fresh.wait_message(), Forked)
        answered += 1
    assert len(collector.execution().results) == 3001 and displays == 3002 and answered > 5


def test_replaced_handler_is_back_for_the_next_run(fresh: GuestProcess) -> None:
    fresh.run("import signal\nsignal.signal(64, signal.SIG_IGN)")
    assert signalled(fresh).ok


def test_generation_file_wins(fresh: GuestProcess) -> None:
    if os.path.exists(m.GENERATION_FILE):
        pytest.skip("this machine has a generation file of its own")
    fresh.fork(generation="from request")
    assert fresh.run("import prong\nprong.generation()").text == "'from request'"
