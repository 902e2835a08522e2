"""``prong snapshot``, ``prong export`` and ``prong import``: saved states of cells, here and as portable files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from prong.cli.completion import snapshot_ids
from prong.cli.engines import open_engine
from prong.cli.output import JsonFlag, output_of, printable
from prong.cli.treeview import Node, draw
from prong.cli.values import format_size

if TYPE_CHECKING:
    from prong.errors import Json
    from prong.store.snapshots import Snapshot, SnapshotStore

snapshot_app = typer.Typer(
    name="snapshot",
    help="Snapshots: saved states of cells, which new cells can be forked from.",
    epilog="Example: prong snapshot tree",
    no_args_is_help=True,
)
IdArgument = Annotated[
    str,
    typer.Argument(metavar="SNAPSHOT", help="Its id, or the beginning of it (4 or more).", autocompletion=snapshot_ids),
]
NONE_YET = "no snapshots yet; in prong repl, :snapshot takes one"
SHORT = 12


def register(app: typer.Typer) -> None:
    """Add the three commands."""
    app.add_typer(snapshot_app)
    app.command("export", epilog="Example: prong export abcd experiment.prong")(export)
    app.command("import", epilog="Example: prong import experiment.prong")(import_file)


@snapshot_app.command("ls", epilog="Example: prong snapshot ls --json | jq '.snapshots[].id'")
def list_snapshots(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the snapshots of this host, oldest first."""
    output = output_of(context)
    store = _store()
    snapshots, damaged = store.ls(), store.damaged()
    if as_json:
        output.document({"snapshots": [_summary(s) for s in snapshots], "damaged": dict(damaged)})
        return
    if not snapshots and not damaged:
        output.console.print(NONE_YET)
        return
    table = Table("id", "created", "memory in use", "note", box=None, pad_edge=False, header_style="bold")
    for snapshot in snapshots:
        created = f"{snapshot.manifest.created.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(snapshot.id, created, format_size(_used(snapshot)), Text(printable(snapshot.manifest.note)))
    for name, reason in damaged.items():
        table.add_row(name, Text(f"damaged: {printable(reason)}", style="red"))
    output.console.print(table)


@snapshot_app.command("tree", epilog="Example: prong snapshot tree")
def tree(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show which snapshot was made from which."""
    output = output_of(context)
    roots = _forest(_store())
    if as_json:
        output.document({"trees": [root.to_json() for root in roots]})
    elif not roots:
        output.console.print(NONE_YET)
    else:
        for root in roots:
            output.console.print(draw(root))


@snapshot_app.command("inspect", epilog="Example: prong snapshot inspect abcd")
def inspect(context: typer.Context, snapshot: IdArgument, as_json: JsonFlag = False) -> None:
    """Show everything known of a snapshot."""
    output = output_of(context)
    store = _store()
    found = store.get(snapshot)
    manifest = found.manifest
    lineage = store.lineage(found.id)
    if as_json:
        output.document({**manifest.model_dump(mode="json"), "path": str(found.path), "lineage": list(lineage)})
        return
    limits = {name: format_size(int(v)) if name == "memory" and v else v for name, v in manifest.limits.items()}
    rows = {
        "id": manifest.id,
        "from": " → ".join(name[:SHORT] for name in reversed(lineage[1:])) or manifest.parent or "-",
        "made": f"{manifest.created.astimezone():%Y-%m-%d %H:%M:%S} by prong {manifest.prong}",
        "made on": manifest.cpu.model,
        "image": manifest.image,
        "memory": f"{format_size(_used(found))} in use",
        "limits": ", ".join(f"{name} {value}" for name, value in limits.items()) or "-",
        "note": manifest.note or "-",
        "files": str(found.path),
    }
    for label, value in rows.items():
        output.console.print(Text.assemble((f"{label:<8}", "bold"), printable(value)))


@snapshot_app.command("rm", epilog="Example: prong snapshot rm abcd")
def remove(
    context: typer.Context,
    snapshots: Annotated[list[str], typer.Argument(help="Ids, or their beginnings.", autocompletion=snapshot_ids)],
    force: Annotated[bool, typer.Option("--force", help="Also one that others were made from; they stay usable.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove snapshots."""
    output = output_of(context)
    store = _store()
    removed: list[Json] = []
    for word in snapshots:
        removed.append(store.rm(word, force=force))
        if not as_json:
            output.console.print(f"removed {removed[-1]}", markup=False)
    if as_json:
        output.document({"removed": removed})


def export(
    context: typer.Context,
    snapshot: IdArgument,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    as_json: JsonFlag = False,
) -> None:
    """Write a snapshot as one portable file. The host it is imported on needs the same image."""
    output = output_of(context)
    with open_engine() as engine:
        found = engine.snapshots.get(snapshot)
        with output.progress.status(f"writing {file}"):
            engine.export(found, file)
    size = file.stat().st_size
    if as_json:
        output.document({"id": found.id, "file": str(file), "size_bytes": size})
    else:
        output.console.print(f"{file}: snapshot {found.id}, {format_size(size)}", markup=False)


def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that prong export wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Check a portable file and add it to the snapshots of this host; prints its id."""
    output = output_of(context)
    with open_engine() as engine, output.progress.status(f"checking {file}"):
        found = engine.import_file(file)
    if as_json:
        output.document(_summary(found))
    else:
        output.console.print(found.id, markup=False)


def _store() -> SnapshotStore:
    from prong.store.paths import Paths
    from prong.store.snapshots import SnapshotStore

    return SnapshotStore(Paths.resolve().ensure().snapshots)


def _used(snapshot: Snapshot) -> int:
    """Bytes of memory that are not all zero."""
    return snapshot.manifest.memory.pages * snapshot.manifest.memory.page


def _summary(snapshot: Snapshot) -> dict[str, Json]:
    manifest = snapshot.manifest
    return {
        "id": manifest.id,
        "parent": manifest.parent,
        "created": manifest.created.isoformat(),
        "image": manifest.image,
        "memory_bytes": _used(snapshot),
        "note": manifest.note,
    }


def _forest(store: SnapshotStore) -> list[Node]:
    """The snapshots as trees, from the depths the store gives."""
    roots: list[Node] = []
    path: list[Node] = []
    for depth, snapshot in store.tree():
        note = f"{snapshot.manifest.created.astimezone():%Y-%m-%d %H:%M}"
        node = Node(snapshot.id, "snapshot", snapshot.manifest.note, note)
        del path[depth:]
        if path:
            path[-1].add(node)
        else:
            roots.append(node)
        path.append(node)
    return roots
