"""From text to code objects: splitting off a cell's last expression, and keeping source for tracebacks."""

from __future__ import annotations
import __future__

import ast
import linecache
import types
from collections import deque

_FUTURE_MASK = 0
for _name in __future__.all_feature_names:
    _FUTURE_MASK |= getattr(__future__, _name).compiler_flag

TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
KEPT_SOURCES = 2000
_registered: deque[str] = deque()


def register(filename: str, code: str) -> None:
    """Let tracebacks and ``inspect`` find the lines of code that is in no file. The oldest are forgotten at a cap."""
    cache = linecache.cache
    if type(cache) is not dict:
        linecache.cache = cache = {}
    if filename not in cache:
        _registered.append(filename)
        if len(_registered) > KEPT_SOURCES:
            cache.pop(_registered.popleft(), None)
    # No modification time: linecache.checkcache() then leaves the entry alone and never asks the file system.
    cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)


def _is_silenced(expression: ast.Expr, code: str) -> bool:
    """Whether a semicolon follows the expression."""
    if ";" not in code:
        return False
    lines = code.encode("utf-8", "surrogatepass").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    line, column = expression.end_lineno or 1, expression.end_col_offset or 0
    return lines[line - 1][column:].lstrip(b" \t\f").startswith(b";")


_NOTHING = compile("", "<nothing>", "exec", 0, True)


def compile_cell(code: str, filename: str, flags: int) -> tuple[types.CodeType, types.CodeType | None, int]:
    """Compile a cell into its statements and its last expression, if its value is wanted.

    Args:
        code: the cell.
        filename: its name in tracebacks.
        flags: the future features earlier cells of the context switched on.

    Returns:
        statements, expression or None, and the flags with what this cell switched on.

    Raises:
        SyntaxError, ValueError (null bytes), or whatever else ``compile`` raises.
    """
    if "\n" not in code.rstrip("\n") and ";" not in code:
        # Most short cells are one expression. Compiled as one, no syntax tree is made: a fork touches fewer pages.
        try:
            return _NOTHING, compile(code, filename, "eval", flags | TOP_LEVEL_AWAIT, True), flags
        except SyntaxError:
            pass  # statements; or wrong, and then the full way says so with the right words
    tree = compile(code, filename, "exec", flags | TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST, True)
    last = tree.body[-1] if tree.body else None
    expression = None
    if isinstance(last, ast.Expr) and not _is_silenced(last, code):
        tree.body.pop()
        expression = ast.Expression(last.value)
    statements = compile(tree, filename, "exec", flags | TOP_LEVEL_AWAIT, True)
    flags |= statements.co_flags & _FUTURE_MASK
    if expression is None:
        return statements, None, flags
    return statements, compile(expression, filename, "eval", flags | TOP_LEVEL_AWAIT, True), flags


def compile_program(code: str | bytes, filename: str) -> types.CodeType:
    """Compile a program; bytes may carry a coding cookie. Raises what ``compile`` raises."""
    return compile(code, filename, "exec", 0, True)
