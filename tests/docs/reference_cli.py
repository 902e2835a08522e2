"""docs/reference/cli.md: every command with its arguments and options, from the typer app itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from prong.cli.app import build_app
from prong.cli.replcommands import COMMANDS as REPL_COMMANDS

INTRODUCTION = """\
# Commands

`prong COMMAND --help` shows the same. What all commands share (`--json`, errors, exit statuses, environment) is in
[command line](command-line.md).
"""


def cli_page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for name, command in _commands(get_command(build_app()), "prong"):
        parts.append(_section(name, command))
        if name == "prong repl":
            parts.append(_repl_commands())
    return "\n".join(parts)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(full name, command) of every command that does something, in the order of the help."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for word, child in below.items():
        if not child.hidden:
            yield from _commands(child, f"{name} {word}")


def _section(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if not parameter.hidden]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_usage, arguments)])
    lines = [f"## `{name}`", "", f"`{usage}`", "", inspect.cleandoc(command.help or "")]
    if command.epilog:
        # Examples are set apart by three blanks and a word: "prong run X   or: prong run Y", "prong repl   then: :help".
        example = re.sub(r"   (\w+): (.+)$", r"`, \1 `\2", command.epilog.removeprefix("Example: "))
        lines += ["", f"For example `{example}`."]
    if shown:
        lines += ["", "| argument or option | meaning | default |", "|---|---|---|"]
        lines += [_row(parameter) for parameter in (*arguments, *options)]
    return "\n".join(lines) + "\n"


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs == -1 and not argument.metavar else ""
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        name = ", ".join(f"`{option}{value}`" for option in (*parameter.opts, *parameter.secondary_opts))
    help_text = (parameter.help or "") + (" May be given again." if getattr(parameter, "multiple", False) else "")
    default = parameter.default
    told = "required" if parameter.required else "" if default in (None, False) else f"`{default}`"
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (name, help_text, told)) + " |"


def _repl_commands() -> str:
    lines = ["Inside, these lines are commands and all others Python:", "", "| command | what it does |", "|---|---|"]
    lines += [f"| `{command.usage}` | {command.help} |" for command in REPL_COMMANDS.values()]
    return "\n".join(lines) + "\n"
