"""User code that breaks its interpreter on purpose: the runtime goes on, and its frames stay true."""

# ruff: noqa: E501  # one hostile program a line reads better than wrapped ones

from __future__ import annotations

import pytest

from prong.cell.runtime_fields import ProtocolViolation
from prong.guest import messages as m
from tests.guest.harness import GuestProcess

SABOTAGE = {
    "close descriptors": "import os\nos.closerange(3, 10_000)",
    "delete builtins": "import builtins\nd = delattr\nfor name in list(vars(builtins)): d(builtins, name)",
    "clear builtins through globals": "__builtins__.__dict__.clear()",
    "delete own builtins": "del __builtins__",
    "patch json": (
        "import json, json.encoder, json.decoder\n"
        "json.dumps = json.loads = None\njson.encoder.JSONEncoder.encode = json.decoder.JSONDecoder.decode = None\n"
        "json.encoder.c_make_encoder = json.scanner = None"
    ),
    "patch os": "import os, posix\nos.write = os.read = os._exit = posix.write = posix.read = os.environ = os.getcwd = None",
    "patch traceback": "import traceback, linecache\ntraceback.TracebackException = linecache.getline = None\nlinecache.cache = 3",
    "patch threading": "import threading\nthreading.enumerate = threading.current_thread = threading.Lock = None",
    "patch signal": "import signal\nsignal.signal = signal.getsignal = None",
    "patch collections": "import collections, contextlib, hashlib\ncollections.deque = hashlib.blake2b = None",
    "patch io": "import io\nio.TextIOWrapper = io.BytesIO = None",
    "patch ast and compile": "import ast, builtins\nast.Expr = ast.parse = None\nbuiltins.compile = builtins.exec = None",
    "patch asyncio": "import asyncio\nasyncio.new_event_loop = asyncio.wait = None",
    "patch atexit": "import atexit\natexit.register = None",
    "clear modules": "import sys\nsys.modules.clear()",
    "modules none": "import sys\nsys.modules = None",
    "path none": "import sys\nsys.path = None",
    "delete sys": "import sys\nfor name in ['path', 'argv', 'stdout', 'stderr', 'stdin', 'excepthook']: delattr(sys, name)",
    "delete originals": "import sys\nsys.__stdout__ = sys.__stdin__ = sys.stdout = sys.stdin = None",
    "close streams": "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr): s.close()",
    "detach streams": "import sys\nsys.stdout.detach()\nsys.stderr.detach()",
    "broken streams": (
        "import sys\nclass S:\n    def __getattr__(self, name): raise SystemError(name)\nsys.stdout = sys.stderr = S()"
    ),
    "tracer": "import sys\nsys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: 1 / 0)",
    "tiny recursion limit": "import sys\nsys.setrecursionlimit(40)",
    "tiny recursion limit, then error": "import sys\nsys.setrecursionlimit(40)\n1 / 0",
    "gc off and callbacks": "import gc\ngc.disable()\ngc.callbacks.append(lambda *a: 1 / 0)",
    "meta path": "import sys\nsys.meta_path.clear()\nsys.path_hooks.clear()",
    "evil underscore": "_ = property(lambda s: 1 / 0)",
    "no main": "import sys\ndel sys.modules['__main__']",
    "excepthook": "import sys\nsys.excepthook = sys.displayhook = sys.unraisablehook = None",
    "prong module": "import prong\nprong.__dict__.clear()",
    "matplotlib impostor": (
        "import sys, types\nfor n in ('matplotlib._pylab_helpers', 'matplotlib.figure', 'pandas', 'numpy.random'):\n"
        "    sys.modules[n] = types.ModuleType(n)"
    ),
}


FROM_A_SCRIPT = ("delete builtins", "patch os", "clear modules", "delete sys", "close streams", "tracer", "path none")


@pytest.mark.parametrize(
    ("name", "mode"), [*((name, "cell") for name in SABOTAGE), *((name, "script") for name in FROM_A_SCRIPT)]
)
def test_sabotage_is_survived(fresh: GuestProcess, name: str, mode: str) -> None:
    """After it, runs still end with their own status, a context reset gives working names back, forks still answer."""
    fresh.run(SABOTAGE[name], mode=mode)
    for _ in range(2):
        execution = fresh.run("1 + 1")
        assert execution.exit_code in (0, 1)
        if execution.exit_code == 0:
            assert execution.text in ("2", None)
        assert fresh.run("x = (", context="main").exit_code == 1
    fresh.script("raise SystemExit(9)")
    fresh.fork(generation="after")
    collector = fresh.start("while True: pass")
    fresh.interrupt()
    while True:
        message = fresh.wait_message()
        if getattr(message, "last_id", fresh._next_id) < fresh._next_id:
            fresh.interrupt()
        elif collector.message(message):
            break
    assert collector.execution().exit_code in (1, 130)


RECOVERS = [
    "close descriptors",
    "patch json",
    "patch traceback",
    "close streams",
    "detach streams",
    "delete originals",
    "tracer",
    "tiny recursion limit",
    "delete own builtins",
    "patch threading",
    "patch signal",
    "no main",
    "meta path",
    "patch collections",
]


@pytest.mark.parametrize("name", RECOVERS)
def test_the_next_run_is_unharmed(fresh: GuestProcess, name: str) -> None:
    fresh.run(SABOTAGE[name])
    execution = fresh.run("print('out')\n1 + 1")
    assert (execution.stdout, execution.text, execution.exit_code) == ("out\n", "2", 0), execution
    error = fresh.run("def f():\n    1 / 0\nf()").error
    assert error is not None and error.name == "ZeroDivisionError"
    assert fresh.script("print('s')\nraise SystemExit(9)").exit_code == 9


def test_reset_brings_builtins_back(fresh: GuestProcess) -> None:
    from prong.cell.runtime_messages import Contexts

    fresh.run(SABOTAGE["delete builtins"])
    assert fresh.run("print(1)").exit_code == 1
    fresh.send(Contexts(id=fresh.next_id(), op="reset", name="main"))
    fresh.wait_message()
    assert fresh.run("print(1)\ndisplay(2)\nlen('abc')").text == "3"


@pytest.mark.parametrize("code", ["import os\nos._exit(5)", "import ctypes\nctypes.string_at(0)"])
def test_death_is_seen(fresh: GuestProcess, code: str) -> None:
    """Ending the process is what user code can do; the stream then ends without a finished frame."""
    fresh.start(code)
    with pytest.raises(EOFError):
        fresh.wait_message()


def test_frames_printed_on_stdout_are_output(runtime: GuestProcess) -> None:
    code = (
        "import json, struct, sys\n"
        "frame = json.dumps({'type': 'finished', 'id': 1, 'nonce': 'n', 'exit_code': 0, 'execution_count': 1}).encode()\n"
        "for f in (sys.stdout, sys.stderr):\n"
        "    f.buffer.write(struct.pack('>I', len(frame)) + frame)\n    f.flush()\n"
        "raise SystemExit(3)"
    )
    execution = runtime.script(code)
    assert execution.exit_code == 3 and '"finished"' in execution.stdout and '"finished"' in execution.stderr


def test_forged_finish_without_the_nonce_is_a_violation(fresh: GuestProcess) -> None:
    code = (
        "import json, os, struct\n"
        "frame = json.dumps({'type': 'finished', 'id': 1, 'nonce': 'guess', 'exit_code': 0, 'execution_count': 1}).encode()\n"
        "os.write(12_345, struct.pack('>I', len(frame)) + frame)\nraise SystemExit(3)"
    )
    with pytest.raises(ProtocolViolation):
        fresh.script(code)


def test_garbage_on_the_control_descriptor_is_a_violation(fresh: GuestProcess) -> None:
    with pytest.raises(ProtocolViolation):
        fresh.run("import os\nos.write(12_345, b'\\xff' * 100)")


VICIOUS = {
    "repr raises": "class V:\n    def __repr__(self): raise LookupError('no')\nV()",
    "repr raises base": "class B(BaseException): pass\nclass V:\n    def __repr__(self): raise B\nV()",
    "repr exits": "class V:\n    def __repr__(self): raise SystemExit(4)\nV()",
    "repr not text": "class V:\n    def __repr__(self): return 5\nV()",
    "repr recursive": "class V:\n    def __repr__(self): return repr(self)\nV()",
    "getattr raises": "class V:\n    def __getattribute__(self, n): raise LookupError(n)\nV()",
    "getattr answers all": "class V:\n    def __getattr__(self, n): return lambda *a, **k: 7\nV()",
    "html raises": "class V:\n    def _repr_html_(self): raise LookupError('h')\nV()",
    "mimebundle wrong": "class V:\n    def _repr_mimebundle_(self, **k): return 7\nV()",
    "mimebundle odd": "class V:\n    def _repr_mimebundle_(self, **k): return {1: 2, 'a' * 500: 'b', 'x/y': object()}\nV()",
    "mimebundle many": "class V:\n    def _repr_mimebundle_(self, **k): return {f'x/{i}': 'b' for i in range(9999)}\nV()",
    "json nan": "class V:\n    def _repr_json_(self): return float('nan')\nV()",
    "json cycle": "class V:\n    def _repr_json_(self):\n        x = []\n        x.append(x)\n        return x\nV()",
    "json deep": "class V:\n    def _repr_json_(self):\n        x = []\n        for _ in range(300): x = [x]\n        return x\nV()",
    "png text": "class V:\n    def _repr_png_(self): return 'not base64 é'\nV()",
    "surrogates": "class V:\n    def __repr__(self): return '\\ud800\\udc00\\udfff'\n    _repr_html_ = __repr__\nV()",
    "controls": "'\\x00\\x1b' * 10\nprint('\\x00')\nclass V(str): pass\nV('\\x00' * 50)",
    "metadata odd": "class V:\n    def _repr_html_(self): return 'h', {i: 'v' * 9999 for i in range(99)}\nV()",
    "str of error raises": "class E(Exception):\n    def __str__(self): raise LookupError\nraise E",
    "str of error loops": "class E(Exception):\n    def __str__(self): return str(self)\nraise E",
    "class of error lies": "class M(type):\n    __name__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E",
    "error attributes": "e = SyntaxError('m', ('f', 'not a line', -5, object()))\nraise e",
    "syntax odd": "raise SyntaxError('m', ('f', -1, -5, 't' * 99999))",
    "error filename": "raise SyntaxError('m', (object(), 1, 1, b'x'))",
    "cause cycle": "a = ValueError('a'); b = ValueError('b'); a.__cause__ = b; b.__cause__ = a\nraise a",
    "long chain": "e = None\nfor i in range(3000):\n    n = ValueError(i)\n    n.__context__ = e\n    e = n\nraise e",
    "name of function": "def f(): 1 / 0\nf.__code__ = f.__code__.replace(co_name='n' * 99999, co_filename='x' * 99999)\nf()",
    "huge class name": "raise type('E' * 10**7, (Exception,), {})('x')",
    "traceback edited": "import sys\ntry:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__ = None\n    raise",
    "exit code property": "class E(SystemExit):\n    code = property(lambda s: 1 / 0)\nraise E",
    "exit code text raises": "class C:\n    def __str__(self): raise LookupError\nraise SystemExit(C())",
    "warnings as text": "import warnings\nwarnings.warn('w')",
    "big text": "'x' * 50_000_000",
    "big list": "list(range(2_000_000))",
    "big unicode": "'é\\x00' * 5_000_000",
    "big html": "class V:\n    def _repr_html_(self): return '<b>' * 5_000_000\nV()",
}


@pytest.mark.parametrize("mode", ["cell", "script"])
@pytest.mark.parametrize("name", VICIOUS)
def test_vicious_objects(runtime: GuestProcess, name: str, mode: str) -> None:
    """Whatever they do, the run ends properly, within the frame limit, and the next one is fine."""
    execution = runtime.run(VICIOUS[name], mode=mode)
    assert execution.exit_code in (0, 1, 4)
    for result in execution.results:
        assert result.text is None or len(result.text) <= m.DEFAULT_DISPLAY_LIMIT
        result.to_json()
    assert runtime.run("1 + 1").text == "2"


def test_what_vicious_results_say(runtime: GuestProcess) -> None:
    result = runtime.run(VICIOUS["repr raises"]).result
    assert result is not None and result.text == "<V object; its repr raised LookupError>"
    assert result.omitted == {"text/plain": "LookupError: no"}
    result = runtime.run(VICIOUS["html raises"]).result
    assert result is not None and result.omitted == {"text/html": "LookupError: h"} and "V object" in (result.text or "")
    result = runtime.run(VICIOUS["json deep"]).result
    assert result is not None and result.json is None and "nested" in result.omitted["application/json"]
    result = runtime.run("'x' * 5000", display_limit=1200).result
    assert result is not None and result.text is not None and result.text.endswith("more characters]")
    assert len(result.text) < 1200
    result = runtime.run(VICIOUS["big html"]).result
    assert result is not None and result.html is None and "bytes" in result.omitted["text/html"]


def test_replaced_stdout_belongs_to_the_user(runtime: GuestProcess) -> None:
    runtime.run("import io, sys\nsys.stdout = io.StringIO()\nprint('captured')")
    assert runtime.run("sys.stdout.getvalue()").text == "'captured\\n'"
    assert runtime.run("sys.stdout = sys.__stdout__\nprint('back')").stdout == "back\n"


def test_rewrapped_stdout_is_mended(runtime: GuestProcess) -> None:
    runtime.run("import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('a')\nsys.stdout = None")
    assert runtime.run("print('b')").stdout == "b\n"
