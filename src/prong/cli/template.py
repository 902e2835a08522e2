"""``prong template``: make, list, look into and remove templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from prong.cli import transfer
from prong.cli.completion import image_names, template_names
from prong.cli.engines import open_engine, steps_shown
from prong.cli.output import JsonFlag, output_of, printable
from prong.cli.values import format_size, parse_size
from prong.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from prong.cell.engine import Engine
    from prong.errors import Json
    from prong.store.templates import Template

template_app = typer.Typer(
    name="template",
    help="Templates: warmed, snapshotted states that cells are forked from.",
    epilog="Example: prong template create science --image python --warm imports.py",
    no_args_is_help=True,
)
NewName = Annotated[str, typer.Argument(metavar="NAME", help="The template's name.")]
NameArgument = Annotated[str, typer.Argument(help="The template's name.", autocompletion=template_names)]


def register(app: typer.Typer) -> None:
    """Add ``prong template``."""
    app.add_typer(template_app)


@template_app.command("create", epilog="Example: prong template create big --image python --memory 1G")
def create(
    context: typer.Context,
    name: NewName,
    image: Annotated[
        str, typer.Option("--image", help="The image to start: a name or digest.", autocompletion=image_names)
    ] = "python",
    warm: Annotated[
        Path | None,
        typer.Option("--warm", metavar="FILE", help="Python to run before the snapshot; default: usual imports."),
    ] = None,
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Most memory of every fork.")] = "256M",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the template of this name, if there is one.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start an image's Python, run a warm-up in it, and save that state for forks to start from."""
    from prong.cell.engine.engine import TemplateSpec

    output = output_of(context)
    size = parse_size(memory, "memory")
    spec = TemplateSpec(name, image, None if warm is None else _source(warm), size)
    with open_engine() as engine:
        _refuse_taken(engine, name, replace)
        with steps_shown(output, f"template {name}") as step:
            made = engine.create_template(spec, replace=replace, step=step)
        if as_json:
            output.document(_summary(made, engine))
        else:
            seconds, memory_text = made.manifest.seconds, format_size(made.manifest.memory)
            output.console.print(f"{name}: {memory_text} of memory, made in {seconds:.1f} s", markup=False)


@template_app.command("ls", epilog="Example: prong template ls --json | jq '.templates[].name'")
def list_templates(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the templates of this host."""
    output = output_of(context)
    with open_engine() as engine:
        templates, damaged = engine.templates.ls(), engine.templates.damaged()
        if as_json:
            output.document({"templates": [_summary(t, engine) for t in templates], "damaged": dict(damaged)})
            return
        if not templates and not damaged:
            output.console.print("no templates yet; the default one is made at its first use: prong run 'print(1)'")
            return
        table = Table("name", "image", "memory", "created", box=None, pad_edge=False, header_style="bold")
        for template in templates:
            manifest = template.manifest
            created = manifest.created.astimezone().strftime("%Y-%m-%d %H:%M")
            table.add_row(template.name, _image_name(engine, manifest.image), format_size(manifest.memory), created)
        for name, reason in damaged.items():
            table.add_row(name, Text(f"damaged: {printable(reason)}", style="red"))
        output.console.print(table)


@template_app.command("inspect", epilog="Example: prong template inspect python")
def inspect(context: typer.Context, name: NameArgument, as_json: JsonFlag = False) -> None:
    """Show what a template was made of and what it holds."""
    from prong.store.manifest import SnapshotManifest

    output = output_of(context)
    with open_engine() as engine:
        template = engine.templates.get(name)
        saved = SnapshotManifest.read(template.snapshot)
        if as_json:
            document = {**_summary(template, engine), "snapshot": saved.model_dump(mode="json"), "path": str(template.path)}
            output.document(document)
            return
        manifest = template.manifest
        rows = {
            "name": template.name,
            "image": f"{_image_name(engine, manifest.image)} ({manifest.image[:12]})",
            "memory": f"{format_size(manifest.memory)}, {format_size(saved.memory.pages * saved.memory.page)} of it in use",
            "warm-up": f"SHA-256 {manifest.warm}" if manifest.warm else "-",
            "made": f"{manifest.created.astimezone():%Y-%m-%d %H:%M:%S} by prong {manifest.prong}, {manifest.seconds} s",
            "made on": saved.cpu.model,
            "snapshot": str(template.snapshot),
        }
        for label, value in rows.items():
            output.console.print(Text.assemble((f"{label:<9}", "bold"), printable(value)))


@template_app.command("rm", epilog="Example: prong template rm science")
def remove(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of templates.", autocompletion=template_names)],
    as_json: JsonFlag = False,
) -> None:
    """Remove templates. Snapshots of their forks stay usable."""
    output = output_of(context)
    with open_engine() as engine:
        for name in names:
            engine.templates.rm(name)
            if not as_json:
                output.console.print(f"removed {name}", markup=False)
    if as_json:
        output.document({"removed": list(names)})


def _source(path: Path) -> str:
    try:
        return transfer.read_local(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {error}", data={"path": str(path)}) from None


def _refuse_taken(engine: Engine, name: str, replace: bool) -> None:
    """Say so before the work rather than after it."""
    from prong.store.templates import check_name

    check_name(name)
    if not replace and any(name == there for there in (*_names(engine), *engine.templates.damaged())):
        raise Conflict(
            f"template {name} exists already", hint="use --replace to make it anew, or another name", data={"name": name}
        )


def _names(engine: Engine) -> list[str]:
    return [template.name for template in engine.templates.ls()]


def _image_name(engine: Engine, digest: str) -> str:
    """An image's names, or its digest cut short; images can be gone."""
    try:
        return ", ".join(engine.images.get(digest).names) or digest[:12]
    except NotFound:
        return f"{digest[:12]} (gone)"


def _summary(template: Template, engine: Engine) -> dict[str, Json]:
    manifest: dict[str, Json] = template.manifest.model_dump(mode="json")
    return {**manifest, "image_name": _image_name(engine, template.manifest.image)}
