"""Opening the engine and loading templates for a command, with progress shown where it takes time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prong.cli.output import Output

if TYPE_CHECKING:
    from prong.cell.engine import Engine, Template


def open_engine() -> Engine:
    """The engine over the data directory; close it, or use it as a context manager."""
    from prong.cell.engine import Engine

    return Engine()


@contextlib.contextmanager
def steps_shown(output: Output, title: str) -> Iterator[Callable[[str], None]]:
    """Show the steps of something on standard error: a spinner on a terminal, a line a step elsewhere."""
    console = output.progress
    if not console.is_terminal:
        yield lambda step: console.print(f"{title}: {step}", markup=False)
        return
    with console.status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def load_template(engine: Engine, name: str, output: Output) -> Template:
    """The loaded template; the default one, and its image, are made with progress shown if they are not there yet.

    Raises:
        NotFound: no such template. HostUnfit: cells cannot run here. BuildFailed: making the default one failed.
    """
    from prong.cell.engine.engine import DEFAULT_IMAGE, DEFAULT_TEMPLATE
    from prong.cli.image import build_shown
    from prong.errors import Conflict, NotFound
    from prong.image.spec import load_spec

    if name == DEFAULT_TEMPLATE:
        try:
            engine.templates.get(name)
        except NotFound:
            try:
                engine.images.get(DEFAULT_IMAGE)
            except NotFound:
                with build_shown(output, f"building image {DEFAULT_IMAGE}, once") as progress:
                    engine.images.build(load_spec(DEFAULT_IMAGE), progress=progress)
            try:
                with steps_shown(output, f"making template {name}, once") as step:
                    return engine.template(name, step=step)
            except Conflict:  # another prong made it while this one waited for its turn
                return engine.template(name)
    return engine.template(name)
