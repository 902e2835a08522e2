"""Mode cell: statements, last expression, state, errors as data, top-level await, surroundings."""

from __future__ import annotations

import textwrap

import pytest

from prong.cell.runtime_messages import Refused, Run, Started
from tests.guest.harness import GuestProcess, guest


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 + 1", "2"),
        ("x = 5\nx", "5"),
        ("x = 5", None),
        ("5;", None),
        ("5 ; # why", None),
        ("'a;b'", "'a;b'"),
        ("(7) ;", None),
        ("'é';", None),
        ("None", None),
        ("", None),
        ("# only a comment", None),
        ("if True:\n    9", None),
        ("'\\ud800'", "'\\ud800'"),
        ("'日本 🎉'", "'日本 🎉'"),
    ],
)
def test_last_expression(runtime: GuestProcess, code: str, text: str | None) -> None:
    execution = runtime.run(code)
    assert execution.ok, execution.error
    assert execution.text == text
    assert [result.is_main for result in execution.results] == ([] if text is None else [True])


def test_state_underscore_and_count(runtime: GuestProcess) -> None:
    first = runtime.run("a = 20\na + 1")
    second = runtime.run("_ * 2")
    assert (first.text, second.text) == ("21", "42")
    assert second.execution_count == first.execution_count + 1


def test_own_underscore_is_left_alone(fresh: GuestProcess) -> None:
    fresh.run("_ = 'mine'")
    fresh.run("1 + 1")
    assert fresh.run("_").text == "'mine'"


def test_output_goes_to_its_descriptors(runtime: GuestProcess) -> None:
    execution = runtime.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.stdout.write('no newline');")
    assert (execution.stdout, execution.stderr) == ("out\nno newline", "err\n")


def test_output_appears_before_the_end(runtime: GuestProcess) -> None:
    collector = runtime.start("print('first')\nanswer = input('? ')\nanswer")
    runtime.wait_output(b"first\n")
    assert runtime.process.stdin is not None
    runtime.process.stdin.write("grüß\n".encode())
    runtime.process.stdin.flush()
    execution = runtime.finish(collector)
    assert (execution.text, execution.stdout) == ("'grüß'", "first\n? ")


def test_error_is_data(runtime: GuestProcess) -> None:
    code = "def inner():\n    return 1 / 0\n\ninner()"
    execution = runtime.run(code)
    error = execution.error
    assert execution.exit_code == 1 and error is not None and execution.stderr == ""
    assert (error.name, error.value) == ("ZeroDivisionError", "division by zero")
    assert [(f.line, f.function, f.source) for f in error.traceback] == [
        (4, "<module>", "inner()"),
        (2, "inner", "return 1 / 0"),
    ]
    assert error.traceback[0].file == f"<cell {execution.execution_count}>"
    assert error.formatted.startswith('Traceback (most recent call last):\n  File "<cell ')
    assert "runtime" not in error.formatted and "prong_guest" not in error.formatted


def test_earlier_cells_show_their_source(runtime: GuestProcess) -> None:
    runtime.run("def earlier():\n    raise KeyError('k')")
    error = runtime.run("earlier()").error
    assert error is not None and error.traceback[-1].source == "raise KeyError('k')" and error.value == "'k'"


def test_syntax_error(runtime: GuestProcess) -> None:
    error = runtime.run("x = 1\ny = (2 +").error
    assert error is not None and error.name == "SyntaxError" and error.traceback == ()
    assert error.syntax is not None and error.syntax.line == 2 and error.syntax.text == "y = (2 +\n"
    assert error.syntax.column == 5 and "^" in error.formatted and "Traceback" not in error.formatted


@pytest.mark.parametrize("code", ["x = '\0'", "\ud800", "(" * 5000, "x" + " + x" * 50_000])
def test_what_the_compiler_refuses(runtime: GuestProcess, code: str) -> None:
    execution = runtime.run(code)
    assert execution.exit_code == 1 and execution.error is not None
    assert runtime.run("1").text == "1"


def test_deep_and_large_failures(runtime: GuestProcess) -> None:
    error = runtime.run("def f(): f()\nf()").error
    assert error is not None and error.name == "RecursionError" and 10 < len(error.traceback) <= 200
    error = runtime.run("x = bytearray(1 << 60)").error
    assert error is not None and error.name == "MemoryError"
    error = runtime.run("raise ValueError('v' * 10_000_000)").error
    assert error is not None and len(error.value) < 100_000 and "left out" in error.value


def test_chained_errors(runtime: GuestProcess) -> None:
    error = runtime.run("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('v') from e").error
    assert error is not None and error.name == "ValueError" and "direct cause" in error.formatted


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        ("raise SystemExit", 0, None),
        ("import sys; sys.exit(3)", 3, "SystemExit"),
        ("raise SystemExit('text')", 1, "SystemExit"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("raise GeneratorExit", 1, "GeneratorExit"),
        ("class E(BaseException): pass\nraise E('x')", 1, "E"),
    ],
)
def test_exit_codes(runtime: GuestProcess, code: str, status: int, name: str | None) -> None:
    execution = runtime.run(code)
    assert execution.exit_code == status
    assert (execution.error and execution.error.name) == name


def test_top_level_await_on_a_persistent_loop(runtime: GuestProcess) -> None:
    runtime.run(
        textwrap.dedent("""
        import asyncio
        async def work():
            await asyncio.sleep(0.01)
            return 'done'
        task = asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(0)
        """)
    )
    assert runtime.run("await task").text == "'done'"
    assert runtime.run("for i in range(2):\n    await asyncio.sleep(0)\ni").text == "1"
    assert runtime.run("asyncio.run(work())").text == "'done'"
    assert runtime.run("await asyncio.sleep(0, 'again')").text == "'again'"
    error = runtime.run("await asyncio.sleep(0)\nraise LookupError('here')").error
    assert error is not None and [f.line for f in error.traceback] == [2]


def test_closed_loop_is_replaced(runtime: GuestProcess) -> None:
    runtime.run("import asyncio\nloop = asyncio.get_running_loop() if False else None\nawait asyncio.sleep(0)")
    runtime.run("asyncio.get_event_loop().close()")
    assert runtime.run("await asyncio.sleep(0, 1)").text == "1"


def test_environment_directory_and_arguments_are_for_one_call(runtime: GuestProcess) -> None:
    runtime.run("import os, sys\nos.environ['KEPT'] = 'before'\nhere = os.getcwd()")
    code = "os.environ['NEW'], os.environ['KEPT'], os.environ.get('PATH'), os.getcwd(), sys.argv"
    during = runtime.run(code, env={"NEW": "1", "KEPT": "2", "PATH": None}, cwd="/usr", argv=("prog", "a"))
    assert during.text == "('1', '2', None, '/usr', ['prog', 'a'])"
    after = runtime.run("os.environ.get('NEW'), os.environ['KEPT'], os.environ['PATH'], os.getcwd() == here, sys.argv")
    assert after.text == "(None, 'before', '/usr/bin:/bin', True, [''])"


def test_missing_directory_is_an_error_of_the_run(runtime: GuestProcess) -> None:
    execution = runtime.run("print('not reached')", cwd="/no/such/place", env={"LEFT": "1"})
    assert execution.exit_code == 1 and execution.error is not None and execution.error.name == "FileNotFoundError"
    assert execution.stdout == ""
    assert runtime.run("import os; os.environ.get('LEFT', 'gone')").text == "'gone'"


def test_bad_environment_name(runtime: GuestProcess) -> None:
    execution = runtime.run("1", env={"A=B": "x"})
    assert execution.exit_code == 1 and runtime.run("2").text == "2"


def test_future_import_lasts_in_its_context(runtime: GuestProcess) -> None:
    runtime.run("from __future__ import annotations")
    assert runtime.run("def f(x: undefined_name): pass\nf.__annotations__").text == "{'x': 'undefined_name'}"


def test_pickle_finds_classes_of_cells(runtime: GuestProcess) -> None:
    runtime.run("class Point:\n    x = 4")
    assert runtime.run("import pickle\npickle.loads(pickle.dumps(Point())).x").text == "4"


def test_announced_run_says_so_first(runtime: GuestProcess) -> None:
    collector = runtime.start("input()", announce=True)
    message = runtime.wait_message()
    assert isinstance(message, Started) and not collector.message(message)
    assert runtime.process.stdin is not None
    runtime.process.stdin.write(b"go\n")
    runtime.process.stdin.flush()
    assert runtime.finish(collector).text == "'go'"


def test_unknown_context_is_refused(runtime: GuestProcess) -> None:
    runtime.send(Run(id=runtime.next_id(), code="1", context="nowhere"))
    message = runtime.wait_message()
    assert isinstance(message, Refused) and message.code == "unknown_context"


def test_trivial_run_is_one_write(runtime: GuestProcess) -> None:
    runtime.run("1")
    before = runtime.writes
    runtime.run("1 + 1")
    assert runtime.writes == before + 1


def test_warm_up_is_kept_and_shown_nowhere() -> None:
    with guest(warm="import decimal\nmodel = decimal.Decimal('1.5')\nprint('warming')\ndef twice(x): return x + x\n") as g:
        execution = g.run("twice(model), __name__")
        assert execution.text == "(Decimal('3.0'), '__main__')" and execution.execution_count == 1


def test_ten_megabytes_of_output(runtime: GuestProcess) -> None:
    execution = runtime.run("print('x' * 10_000_000)\nprint('é' * 10)")
    assert len(execution.stdout) == 10_000_012 and execution.stdout.endswith("é\n")


def test_threads_outlive_their_run(runtime: GuestProcess) -> None:
    runtime.run(
        "import threading\ngo = threading.Event()\n"
        "thread = threading.Thread(target=lambda: (go.wait(), print('late')))\nthread.start()"
    )
    assert runtime.run("go.set()\nthread.join()").stdout == "late\n"
