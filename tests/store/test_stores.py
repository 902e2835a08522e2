"""The stores of snapshots and templates."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from prong.errors import Conflict, Corrupt, InvalidInput, NotFound
from prong.store.atomic import TEMP_PREFIX
from prong.store.manifest import MANIFEST, Cpu, MemoryPart, SnapshotManifest, StatePart, check_id, new_id, now
from prong.store.snapshots import SnapshotStore
from prong.store.templates import RECORD, TemplateManifest, TemplateStore, check_name

CPU = Cpu.of("GenuineIntel", "Xeon", ["sse2"])
IMAGE = "b" * 64


def manifest(snapshot_id: str, parent: str | None = None) -> SnapshotManifest:
    return SnapshotManifest(
        id=snapshot_id,
        parent=parent,
        created=now(),
        prong="0",
        cpu=CPU,
        image=IMAGE,
        state=StatePart(size=0, sha256=hashlib.sha256().hexdigest()),
        memory=MemoryPart(size=4096, pages=0, sha256=(None,)),
    )


def add(store: SnapshotStore, parent: str | None = None) -> str:
    with store.draft() as draft:
        manifest(draft.id, parent).write(draft.path)
    return draft.id


def test_ids() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(check_id(i) == i for i in ids)
    for bad in ("", "x", "A" * 26, "../" + "a" * 23, "a" * 26 + "\n"):
        with pytest.raises(InvalidInput):
            check_id(bad)


def test_manifest_survives_the_disk(tmp_path: Path) -> None:
    one = manifest(new_id(), new_id())
    one.write(tmp_path)
    assert SnapshotManifest.read(tmp_path) == one
    bad = manifest(new_id()).model_copy(update={"id": "a" * 26 + "\n"})
    with pytest.raises(Corrupt):
        SnapshotManifest.parse(bad.dump(), "here")


def test_snapshots_form_a_tree(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    assert store.ls() == [] and store.tree() == []
    root = add(store)
    left, right = add(store, root), add(store, root)
    leaf = add(store, left)
    stray = add(store, new_id())
    rows = [(depth, s.id) for depth, s in store.tree()]
    assert sorted(rows) == sorted([(0, root), (1, left), (1, right), (2, leaf), (0, stray)])
    assert rows.index((2, leaf)) == rows.index((1, left)) + 1
    assert store.lineage(leaf) == [leaf, left, root] and store.lineage(stray) == [stray]
    assert set(store.children(root)) == {left, right}
    assert store.get(leaf[:8]).id == leaf


def test_parents_in_a_ring_are_all_shown(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    first, second, own = new_id(), new_id(), new_id()
    for snapshot_id, parent in ((first, second), (second, first), (own, own)):
        with store.draft(snapshot_id) as draft:
            manifest(snapshot_id, parent).write(draft.path)
    assert {s.id for _, s in store.tree()} == {first, second, own} and len(store.tree()) == 3
    assert store.lineage(first) == [first, second]


def test_what_is_needed_is_not_removed(tmp_path: Path) -> None:
    used: dict[str, tuple[str, ...]] = {}
    store = SnapshotStore(tmp_path, in_use=lambda i: used.get(i, ()))
    root = add(store)
    child = add(store, root)
    with pytest.raises(Conflict) as caught:
        store.rm(root)
    assert caught.value.data["children"] == [child]
    used[child] = ("sandbox-1",)
    with pytest.raises(Conflict) as caught:
        store.rm(child)
    assert caught.value.data["sandboxes"] == ["sandbox-1"]
    assert store.rm(root[:6], force=True) == root
    assert store.tree()[0][1].id == child
    used.clear()
    store.rm(child)
    with pytest.raises(NotFound):
        store.rm(child)
    for bad in ("", "../x", "zzzz"):
        with pytest.raises(NotFound):
            store.get(bad)


def test_drafts_that_are_not_complete_do_not_appear(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    with pytest.raises(NotFound), store.draft():
        pass
    with pytest.raises(Corrupt), store.draft() as draft:
        manifest(new_id()).write(draft.path)
    with pytest.raises(ValueError, match="x"), store.draft():
        raise ValueError("x")
    snapshot_id = add(store)
    with pytest.raises(Conflict), store.draft(snapshot_id):
        pytest.fail("not reached")
    assert [s.id for s in store.ls()] == [snapshot_id]
    (tmp_path / f"{TEMP_PREFIX}dead").mkdir()
    assert store.sweep() == [f"{TEMP_PREFIX}dead"]


def test_a_damaged_snapshot_does_not_hide_the_others(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    good, bad, moved = add(store), add(store), add(store)
    (tmp_path / bad / MANIFEST).write_text("{}")
    other = new_id()
    (tmp_path / moved).rename(tmp_path / other)
    assert [s.id for s in store.ls()] == [good]
    assert set(store.damaged()) == {bad, other} and "format" in store.damaged()[bad]
    with pytest.raises(Corrupt):
        store.get(bad)
    store.rm(bad)
    store.rm(other)
    assert store.damaged() == {}


def make(store: TemplateStore, name: str, image: str = IMAGE, *, replace: bool = False) -> None:
    with store.building(name, replace=replace) as draft:
        manifest(new_id()).write(draft.snapshot)
        draft.finish(TemplateManifest(name=name, image=image, memory=1 << 28, created=now(), prong="0"))


def test_templates(tmp_path: Path) -> None:
    store = TemplateStore(tmp_path / "templates")
    assert store.ls() == [] and store.templates_using(IMAGE) == []
    make(store, "python")
    make(store, "other-1.0", "c" * 64)
    assert [t.name for t in store.ls()] == ["other-1.0", "python"]
    got = store.get("python")
    assert got.manifest.kind == "cell" and SnapshotManifest.read(got.snapshot).image == IMAGE
    assert store.templates_using(IMAGE) == ["python"]
    with pytest.raises(Conflict):
        make(store, "python")
    make(store, "python", "d" * 64, replace=True)
    assert store.get("python").manifest.image == "d" * 64
    store.rm("python")
    with pytest.raises(NotFound, match="no template python"):
        store.get("python")
    with pytest.raises(NotFound):
        store.rm("python")
    for bad in ("", ".locks", "../x", "A", "x" * 64, "a/b", "a\n"):
        with pytest.raises(InvalidInput):
            check_name(bad)


def test_a_template_in_use_stays(tmp_path: Path) -> None:
    store = TemplateStore(tmp_path)
    make(store, "python")
    with store.using("python") as template, store.using("python"):
        with pytest.raises(Conflict):
            store.rm("python")
        with pytest.raises(Conflict):
            make(store, "python", replace=True)
        assert template.manifest.name == "python"
    store.rm("python")


def test_templates_that_are_not_complete_do_not_appear(tmp_path: Path) -> None:
    store = TemplateStore(tmp_path)
    record = TemplateManifest(name="other", image=IMAGE, memory=1, created=now(), prong="0")
    with pytest.raises(NotFound), store.building("x"):
        pass
    with pytest.raises(NotFound), store.building("x") as draft:
        draft.finish(record.model_copy(update={"name": "x"}))
    with pytest.raises(Corrupt), store.building("x") as draft:
        manifest(new_id()).write(draft.snapshot)
        draft.finish(record)
    assert store.ls() == [] and store.damaged() == {} and store.sweep() == []
    make(store, "x")
    (tmp_path / "x" / RECORD).write_text("{}")
    assert store.ls() == [] and set(store.damaged()) == {"x"}
    with pytest.raises(Corrupt):
        store.get("x")
    store.rm("x")
    assert store.damaged() == {}
