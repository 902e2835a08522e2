"""``prong image``: build, import, list, look into, export and remove images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from prong.cli.output import JsonFlag, Output, output_of, printable
from prong.errors import BuildFailed

if TYPE_CHECKING:
    from prong.image import BuildEvent, Image, ImageStore
    from prong.image import Progress as Watch

image_app = typer.Typer(
    name="image",
    help="Images: the read-only root file systems that sandboxes start from.",
    epilog="Example: prong image build python",
    no_args_is_help=True,
)

TagOption = Annotated[str | None, typer.Option("--tag", help="The image's name; the spec's own by default.")]
ImageArgument = Annotated[str, typer.Argument(help="A name, or a digest or its first digits (8 or more).")]
_STAGE_WIDTH = 8
_LINE_WIDTH = 60


def register(app: typer.Typer) -> None:
    """Add ``prong image``."""
    app.add_typer(image_app)


@image_app.command("build", epilog="Example: prong image build ./tools.yaml --tag tools")
def build(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(help="Built in: base, node, programs, python, testsuite, wheels; or a YAML file.")],
    tag: TagOption = None,
    force: Annotated[bool, typer.Option("--force", help="Build anew, with today's packages.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Build an image from a spec; at once if the unchanged spec was built before."""
    from prong.image import load_spec

    output = output_of(context)
    wanted = load_spec(spec)
    with build_shown(output, f"building {wanted.name}") as progress:
        image = _store().build(wanted, tag=tag, force=force, progress=progress)
    _result(output, image, as_json)


@image_app.command("import", epilog="Example: prong image import rootfs.tar.gz --tag mine")
def import_image(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A directory, or a tar (plain, gzip, bzip2, xz).")],
    tag: Annotated[str, typer.Option("--tag", help="The image's name.")],
    as_json: JsonFlag = False,
) -> None:
    """Make an image from a directory or a tar of a root file system."""
    output = output_of(context)
    store = _store()
    with build_shown(output, f"importing {source}") as progress:
        make = store.import_dir if source.is_dir() else store.import_tar
        image = make(source, tag=tag, progress=progress)
    _result(output, image, as_json)


@image_app.command("export", epilog="Example: prong image export python python.tar.xz")
def export(
    context: typer.Context,
    image: ImageArgument,
    file: Annotated[Path, typer.Argument(help="The tar to write; .tar, .tar.gz or .tar.xz.")],
    as_json: JsonFlag = False,
) -> None:
    """Write an image's tree as a tar."""
    output = output_of(context)
    store = _store()
    found = store.get(image)
    with output.progress.status(f"writing {file}"):
        store.export(found, file)
    size = file.stat().st_size
    if as_json:
        output.document({"digest": found.digest, "file": str(file), "size_bytes": size})
    else:
        output.console.print(f"{file}: {_size(size)}", markup=False)


@image_app.command("ls", epilog="Example: prong image ls --json | jq '.images[].names'")
def list_images(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the images of this host."""
    output = output_of(context)
    images = _store().list()
    if as_json:
        output.document({"images": [_summary(image) for image in images]})
        return
    if not images:
        output.console.print("no images yet; make one: prong image build python")
        return
    table = Table("name", "digest", "size", "files", "created", box=None, pad_edge=False, header_style="bold")
    for image in images:
        manifest = image.manifest
        created = manifest.created.astimezone().strftime("%Y-%m-%d %H:%M")
        names = ", ".join(image.names) or "-"
        table.add_row(names, image.digest[:12], _size(manifest.size_bytes), str(manifest.file_count), created)
    output.console.print(table)


@image_app.command("inspect", epilog="Example: prong image inspect python --verify")
def inspect(
    context: typer.Context,
    image: ImageArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Also compute the digest anew and compare.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what an image holds: its spec, packages and settings."""
    output = output_of(context)
    store = _store()
    found = store.get(image)
    if verify:
        with output.progress.status(f"reading {found.title}"):
            store.verify(found)
    if as_json:
        output.document({**_summary(found), "manifest": found.manifest.model_dump(mode="json"), "verified": verify})
        return
    manifest = found.manifest
    rows = {
        "names": ", ".join(found.names) or "-",
        "digest": found.digest + (" (verified)" if verify else ""),
        "tree": str(found.root),
        "size": f"{_size(manifest.size_bytes)} in {manifest.file_count} entries",
        "made": f"{manifest.created.astimezone():%Y-%m-%d %H:%M:%S} by {manifest.origin}, {manifest.seconds} s",
        "suite": manifest.suite or "-",
        "with": ", ".join(f"{name} {version}" for name, version in manifest.builders.items()),
        "workdir": manifest.workdir,
        "env": " ".join(f"{name}={value}" for name, value in manifest.env.items()) or "-",
        "packages": ", ".join(f"{package.name} {package.version}" for package in manifest.packages) or "-",
    }
    for name, value in rows.items():
        output.console.print(Text.assemble((f"{name:<9}", "bold"), printable(value)))


@image_app.command("rm", epilog="Example: prong image rm python")
def remove(context: typer.Context, images: Annotated[list[str], typer.Argument(help="Names or digests.")],
           as_json: JsonFlag = False) -> None:  # fmt: skip
    """Remove images: a name goes, and with an image's last name the image itself."""
    output = output_of(context)
    store = _store()
    removed = [{"image": image, "digest": store.remove(image)} for image in images]
    if as_json:
        output.document({"removed": removed})
    else:
        for entry in removed:
            output.console.print(f"removed {entry['image']}", markup=False)


def _store() -> ImageStore:
    from prong.image import ImageStore
    from prong.store.paths import Paths

    return ImageStore(Paths.resolve().ensure())


def _summary(image: Image) -> dict[str, object]:
    manifest = image.manifest
    return {
        "names": list(image.names),
        "digest": image.digest,
        "root": str(image.root),
        "size_bytes": manifest.size_bytes,
        "file_count": manifest.file_count,
        "created": manifest.created.isoformat(),
        "origin": manifest.origin,
        "seconds": manifest.seconds,
    }


def _result(output: Output, image: Image, as_json: bool) -> None:
    if as_json:
        output.document(_summary(image))
    else:
        size = _size(image.manifest.size_bytes)
        output.console.print(f"{image.title}: {image.digest[:12]}, {size}", markup=False)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@contextlib.contextmanager
def build_shown(output: Output, title: str) -> Iterator[Watch]:
    """Show a build's events: a bar on a terminal, one line a stage elsewhere, nothing under ``--json``.

    A failed build's last lines of output are printed too; the error itself carries them in ``data`` for programs.
    """
    console = output.progress
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[stage]:<" + str(_STAGE_WIDTH) + "}", style="bold"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", style="dim", markup=False),
    )
    stage = ""
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(title, total=None, stage="start")

            def show(event: BuildEvent) -> None:
                nonlocal stage
                if event.stage != stage:
                    stage = event.stage
                    bar.update(task, total=None, completed=0)
                    if not console.is_terminal:
                        console.print(f"{title}: {event.stage}", markup=False)
                line = printable(event.message)[:_LINE_WIDTH]
                if event.fraction is None:
                    bar.update(task, stage=event.stage, description=line)
                else:
                    bar.update(task, stage=event.stage, description=line, total=1.0, completed=event.fraction)

            yield show
    except BuildFailed as failed:
        for entry in failed.data.get("log") or []:  # type: ignore[union-attr]
            console.print(Text(printable(str(entry)), style="dim"))
        raise
