"""One run from request to ``finished``: both modes, and everything around the user's code."""

from __future__ import annotations

import asyncio
import builtins
import sys
import types
from collections.abc import Coroutine, Mapping
from inspect import CO_COROUTINE
from typing import Any

from . import figures, sources, streams
from . import messages as m
from .channel import Channel
from .contexts import Context, ContextTable
from .interrupts import STARTING, Interrupts, SignalTable, guard, shield
from .programs import Program, exit_code_of
from .rendering import render, render_display
from .surroundings import Surroundings
from .tracebacks import describe, trim

_get_recursion_limit, _set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit
_RECURSION_FLOOR = 1000


class Runner:
    """Carries out ``run`` requests, one at a time, in the main thread.

    Attributes:
        last_id: of the last finished run, 0 before any.
    """

    def __init__(self, channel: Channel, contexts: ContextTable, interrupts: Interrupts, signals: SignalTable) -> None:
        self._channel = channel
        self._contexts = contexts
        self._interrupts = interrupts
        self._signals = signals
        self._run_id: int | None = None
        self._display_limit = m.DEFAULT_DISPLAY_LIMIT
        self.last_id = 0

    def run(self, request: Mapping[str, Any]) -> None:
        """Run the code and report. Raises UnknownContext before anything is done."""
        is_cell = request["mode"] == m.MODE_CELL
        name = request.get("context") or (m.MAIN_CONTEXT if is_cell else None)
        context = None if name is None else self._contexts.get(name)
        self._interrupts.phase = STARTING
        self._run_id = request["id"]
        self._display_limit = request.get("display_limit") or m.DEFAULT_DISPLAY_LIMIT
        count = 0
        if context is not None:
            context.execution_count += 1
            count = context.execution_count
        if request.get("announce"):
            self._channel.post(self._event(request, m.STARTED, execution_count=count))
        surroundings = Surroundings(request, context)
        if is_cell and context is not None:
            exit_code, error = self._cell(request, context, surroundings)
        else:
            program = Program(request, context, self._interrupts)
            program.run(surroundings.apply)
            exit_code, error = program.exit_code, program.error
        self._finish(request, surroundings, exit_code, error, count)

    @staticmethod
    def _event(request: Mapping[str, Any], kind: str, **fields: object) -> dict[str, Any]:
        return {"type": kind, "id": request["id"], "nonce": request["nonce"], **fields}

    def _finish(
        self,
        request: Mapping[str, Any],
        surroundings: Surroundings,
        exit_code: int,
        error: dict[str, Any] | None,
        count: int,
    ) -> None:
        """Put everything back and queue ``finished``; it leaves when the session waits for the next request."""
        problems, _ = shield(surroundings.undo)
        shield(self.restore_interpreter)
        shield(streams.mend)
        if request.get("own_input"):
            shield(streams.forget_input)
        if problems:
            shield(lambda: print(*problems, sep="\n", file=sys.stderr))
        if error is not None:
            self._channel.queue(self._event(request, m.ERROR, error=error))
        self.last_id = request["id"]
        self._run_id = None
        finished = self._event(request, m.FINISHED, exit_code=exit_code, execution_count=count)
        self._channel.queue(finished)
        # Idle before the host can know of it: an interrupt it then sends for its next run must not be dropped as late.
        self._interrupts.idle()

    def restore_interpreter(self) -> None:
        """Take back what user code may have set that would reach into the runtime's own work."""
        if _get_recursion_limit() < _RECURSION_FLOOR:
            _set_recursion_limit(_RECURSION_FLOOR)
        self._signals.restore()

    # -- cells ---------------------------------------------------------------------------------------------------------

    def _cell(
        self, request: Mapping[str, Any], context: Context, surroundings: Surroundings
    ) -> tuple[int, dict[str, Any] | None]:
        filename = request.get("filename") or context.source_name(context.execution_count)
        _, failure = guard(lambda: self._execute_cell(request, context, surroundings, filename))
        _, late_failure = guard(self._end_cell)
        failure = failure or late_failure
        if failure is None:
            return 0, None
        shield(self.restore_interpreter)  # a tiny recursion limit must not keep us from describing the error
        trim(failure, filename)
        if isinstance(failure, SystemExit):
            request_to_exit = failure
            outcome, _ = guard(lambda: exit_code_of(request_to_exit))
            exit_code = 1 if outcome is None else outcome[0]
            return exit_code, (describe(failure) if exit_code else None)
        exit_code = m.EXIT_INTERRUPTED if isinstance(failure, KeyboardInterrupt) else 1
        return exit_code, describe(failure)

    def _execute_cell(self, request: Mapping[str, Any], context: Context, surroundings: Surroundings, filename: str) -> None:
        """Under the guard: statements, last expression, its rendering."""
        self._interrupts.checkpoint()
        surroundings.apply()
        context.activate()
        code = request["code"]
        sources.register(filename, code)
        statements, expression, context.future_flags = sources.compile_cell(code, filename, context.future_flags)
        namespace = context.namespace
        namespace["__builtins__"] = builtins  # else exec would lend it the runtime's private ones
        if (statements.co_flags | (expression.co_flags if expression else 0)) & CO_COROUTINE:
            value = _run_to_end(context, _evaluate_awaiting(statements, expression, namespace))
        else:
            eval(statements, namespace)
            value = None if expression is None else eval(expression, namespace)
        if value is not None:
            context.remember(value)
            self._channel.queue(self._event(request, m.RESULT, bundle=self._render_result(value)))

    def _render_result(self, value: object) -> dict[str, Any]:
        figure = figures.as_figure(value)
        if figure is not None:
            bundle = render_display(figures.png_bundle(figure), True, self._display_limit)
            figures.close(figure)
            return bundle
        return render(value, self._display_limit)

    def _end_cell(self) -> None:
        """Under the guard: show the figures left open, and flush."""
        self._interrupts.checkpoint()
        self.show_figures()
        streams.flush()

    # -- display -------------------------------------------------------------------------------------------------------

    def display(self, *values: object, raw: bool = False, **_options: object) -> None:
        """Show values richly, from any thread. The builtin ``display``.

        Args:
            *values: what to show, each in an event of its own.
            raw: each value is itself ``{mime: text or bytes}``.
            **_options: accepted, and without effect, for code written for IPython (``display_id``, ``metadata``, …).
        """
        for value in values:
            figure = figures.as_figure(value)
            if figure is not None:
                bundle = render_display(figures.png_bundle(figure), True, self._display_limit)
            else:
                bundle = render_display(value, raw, self._display_limit)
            streams.flush()
            self._channel.post({"type": m.DISPLAY, "id": self._run_id, "bundle": bundle})
            self._interrupts.redeliver_here()

    def show_figures(self, *_arguments: object, **_options: object) -> None:
        """Display and close every open matplotlib figure (also ``pyplot.show``)."""
        for figure in figures.open_figures():
            try:
                self.display(figure)
            finally:
                figures.close(figure)


async def _evaluate_awaiting(
    statements: types.CodeType, expression: types.CodeType | None, namespace: dict[str, Any]
) -> object:
    """A cell with an await anywhere: all of it runs inside the running loop."""
    pending = eval(statements, namespace)
    if statements.co_flags & CO_COROUTINE:
        await pending
    if expression is None:
        return None
    value = eval(expression, namespace)
    return await value if expression.co_flags & CO_COROUTINE else value


def _run_to_end(context: Context, coroutine: Coroutine[object, None, object]) -> object:
    """Run a top-level await on the context's loop; when interrupted, cancel it and let it clean up."""
    loop = context.event_loop()
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            loop.run_until_complete(_settle(task))
        if not task.cancelled():
            task.exception()  # seen here: asyncio is not to log it as never retrieved
        raise


async def _settle(task: asyncio.Task[object]) -> None:
    await asyncio.wait([task])
