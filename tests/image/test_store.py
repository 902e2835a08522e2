from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from prong.errors import BuildFailed, Conflict, Corrupt, InvalidInput, NotFound
from prong.image import BuildEvent, ImageSpec, ImageStore, Stage
from prong.store.paths import Paths
from tests.image.conftest import small_root

TINY = ImageSpec(name="tiny", env={"A": "b"}, workdir="/srv")
HANG_GUARD = 60.0


def calls(fake: Path) -> int:
    count = fake / "count"
    return len(count.read_text().splitlines()) if count.exists() else 0


def leftovers(paths: Paths) -> list[str]:
    staging = paths.images / "staging"
    return [entry.name for entry in staging.iterdir()] if staging.exists() else []


def test_build_gives_a_sealed_image_with_a_manifest(store: ImageStore, fake: Path, paths: Paths) -> None:
    events: list[BuildEvent] = []
    image = store.build(TINY, progress=events.append)
    assert image.names == ("tiny",)
    assert image.root == paths.images / image.digest / "root"
    assert stat.S_IMODE((image.root / "usr/bin/tool").stat().st_mode) == 0o755
    assert list((image.root / "dev").iterdir()) == []
    assert (image.root / "etc/shadow").read_text() == "root:*:19000:0:99999:7:::\n"
    manifest = image.manifest
    assert [(package.name, package.version) for package in manifest.packages] == [("tiny", "1.0")]
    assert (manifest.env, manifest.workdir, manifest.origin) == ({"A": "b"}, "/srv", "build")
    assert manifest.builders["mmdebstrap"] == "0.fake"
    assert events[0].stage is Stage.DOWNLOAD
    assert events[-1] == BuildEvent(Stage.DONE, image.digest, 1.0)
    assert leftovers(paths) == []
    store.verify(image)


def test_two_builds_of_one_spec_give_one_digest(store: ImageStore, fake: Path) -> None:
    first = store.build(TINY)
    again = store.build(TINY, force=True)
    assert calls(fake) == 2
    assert again.digest == first.digest
    assert len(store.list()) == 1


def test_an_unchanged_spec_is_not_built_again(store: ImageStore, fake: Path) -> None:
    first = store.build(TINY)
    second = store.build(TINY, tag="other")
    assert calls(fake) == 1
    assert second.digest == first.digest
    assert second.names == ("other", "tiny")
    assert store.build(TINY.model_copy(update={"env": {}})).digest != first.digest


def test_a_removed_image_is_built_again(store: ImageStore, fake: Path) -> None:
    store.remove(store.build(TINY).digest)
    store.build(TINY)
    assert calls(fake) == 2


def test_files_are_written_and_links_that_lead_out_are_not_followed(store: ImageStore, fake: Path) -> None:
    raw = {"name": "f", "files": {"/etc/new/motd": {"content": "hi", "mode": "0700"}}}
    image = store.build(ImageSpec.parse(raw, where="t"))
    assert (image.root / "etc/new/motd").read_text() == "hi"
    assert stat.S_IMODE((image.root / "etc/new/motd").stat().st_mode) == 0o755
    for destination in ("/usr/bin", "/usr/bin/tool/below"):
        with pytest.raises(InvalidInput) as caught:
            store.build(ImageSpec.parse({"name": "g", "files": {destination: {"content": "x"}}}, where="t"))
        assert caught.value.data["field"] == f"files.{destination}"


def test_failed_build_keeps_its_log_and_nothing_else(store: ImageStore, fake: Path, paths: Paths) -> None:
    (fake / "fail").touch()
    with pytest.raises(BuildFailed) as caught:
        store.build(TINY)
    data = caught.value.data
    assert data["status"] == 25
    log, log_file = data["log"], data["log_file"]
    assert isinstance(log, list) and log[-1] == "E: Unable to locate package nonsense"
    assert isinstance(log_file, str) and "nonsense" in Path(log_file).read_text()
    assert store.list() == ()
    assert leftovers(paths) == []


def test_an_exception_in_progress_ends_the_build_and_its_program(store: ImageStore, fake: Path, paths: Paths) -> None:
    (fake / "block").touch()

    def interrupt(event: BuildEvent) -> None:
        if event.stage is Stage.DOWNLOAD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(TINY, progress=interrupt)
    assert leftovers(paths) == []
    assert store.list() == ()


def start_blocked(fake: Path, paths: Paths) -> tuple[subprocess.Popen[bytes], int]:
    (fake / "block").touch()
    command = [sys.executable, "-m", "tests.image.builder", str(paths.home)]
    builder = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    deadline = time.monotonic() + HANG_GUARD
    while not (fake / "blocked").exists() or not (fake / "blocked").read_text():
        assert time.monotonic() < deadline and builder.poll() is None, "the builder did not start"
        time.sleep(0.02)
    return builder, int((fake / "blocked").read_text())


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + HANG_GUARD
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the builder's program outlived it"
        time.sleep(0.02)


def test_a_killed_builder_leaves_nothing_after_a_sweep(store: ImageStore, fake: Path, paths: Paths) -> None:
    builder, program = start_blocked(fake, paths)
    builder.kill()
    builder.communicate()
    wait_gone(program)
    assert store.list() == ()
    # The dying program may hold the lock for a moment after its memory is gone.
    deadline = time.monotonic() + HANG_GUARD
    while len(swept := store.sweep()) == 0:
        assert leftovers(paths) != [] and time.monotonic() < deadline
        time.sleep(0.02)
    assert len(swept) == 1
    assert leftovers(paths) == []
    (fake / "block").unlink()
    assert store.build(TINY).names == ("tiny",)


def test_ctrl_c_cleans_up_at_once(store: ImageStore, fake: Path, paths: Paths) -> None:
    builder, program = start_blocked(fake, paths)
    builder.send_signal(signal.SIGINT)
    builder.communicate(timeout=HANG_GUARD)
    wait_gone(program)
    assert leftovers(paths) == []


def test_second_builder_of_one_spec_waits_and_shares_the_result(store: ImageStore, fake: Path, paths: Paths) -> None:
    events: list[BuildEvent] = []
    waiting = threading.Event()
    results: list[str] = []

    def watch(event: BuildEvent) -> None:
        events.append(event)
        if event.stage is Stage.WAIT:
            waiting.set()

    def second() -> None:
        results.append(ImageStore(paths).build(TINY, progress=watch).digest)

    thread = threading.Thread(target=second)

    def hold_up(event: BuildEvent) -> None:
        if event.stage is Stage.SEAL and not thread.ident:
            thread.start()
            assert waiting.wait(HANG_GUARD)

    first = store.build(TINY, progress=hold_up)
    thread.join(HANG_GUARD)
    assert results == [first.digest]
    assert calls(fake) == 1
    assert [event.stage for event in events] == [Stage.WAIT, Stage.DONE]


def test_import_of_a_directory_and_of_its_tar_agree(store: ImageStore, tmp_path: Path) -> None:
    source = small_root(tmp_path / "source")
    one = store.import_dir(source, tag="one")
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as tar:
        tar.add(source, arcname=".")
    two = store.import_tar(tmp_path / "source.tar.gz", tag="two")
    assert one.digest == two.digest
    assert two.names == ("one", "two")
    assert (two.manifest.origin, two.manifest.spec) == ("import", None)
    store.export(two, tmp_path / "out.tar")
    assert store.import_tar(tmp_path / "out.tar", tag="three").digest == one.digest


def test_refused_import_leaves_nothing(store: ImageStore, tmp_path: Path, paths: Paths) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        tar.addfile(tarfile.TarInfo("../bad"))
    with pytest.raises(InvalidInput):
        store.import_tar(tmp_path / "bad.tar", tag="bad")
    assert leftovers(paths) == []
    assert store.list() == ()


def test_import_checks_its_arguments_first(store: ImageStore, tmp_path: Path) -> None:
    for make in (store.import_tar, store.import_dir):
        with pytest.raises(NotFound):
            make(tmp_path / "missing", tag="x")
    with pytest.raises(InvalidInput) as caught:
        store.import_dir(tmp_path, tag="../x")
    assert caught.value.data["field"] == "tag"


def test_get_by_name_digest_and_prefix(store: ImageStore, tmp_path: Path) -> None:
    image = store.import_dir(small_root(tmp_path / "a"), tag="a")
    for handle in ("a", image.digest, image.digest[:8], f"sha256:{image.digest}"):
        assert store.get(handle) == image
    for handle in ("b", image.digest[:7], "0" * 64, "../a", "", "a/b"):
        with pytest.raises(NotFound):
            store.get(handle)


def test_remove_takes_names_one_by_one(store: ImageStore, tmp_path: Path) -> None:
    image = store.import_dir(small_root(tmp_path / "a"), tag="a")
    store.tag(image, "b")
    store.remove("a")
    assert store.get("b").names == ("b",)
    store.remove("b")
    assert store.list() == ()
    assert not image.root.exists()
    with pytest.raises(NotFound):
        store.remove("b")


def test_remove_by_digest_takes_all_names(store: ImageStore, tmp_path: Path, paths: Paths) -> None:
    image = store.import_dir(small_root(tmp_path / "a"), tag="a")
    store.tag(image, "b")
    store.remove(image.digest)
    assert list((paths.images / "tags").iterdir()) == []
    assert leftovers(paths) == []


def test_an_image_in_use_is_not_removed(paths: Paths, tmp_path: Path) -> None:
    users: list[str] = ["template warm"]
    store = ImageStore(paths, in_use=lambda digest: users)
    image = store.import_dir(small_root(tmp_path / "a"), tag="a")
    for handle in ("a", image.digest):
        with pytest.raises(Conflict) as caught:
            store.remove(handle)
        assert caught.value.data["users"] == ["template warm"]
    assert store.get("a") == image
    users.clear()
    store.remove("a")


def test_a_tag_moves_to_the_newest_image(store: ImageStore, tmp_path: Path) -> None:
    first = store.import_dir(small_root(tmp_path / "a"), tag="a")
    (tmp_path / "a/etc/secret").write_text("changed")
    second = store.import_dir(tmp_path / "a", tag="a")
    assert store.get("a").digest == second.digest
    assert store.get(first.digest).names == ()
    assert [image.names for image in store.list()] == [("a",), ()]


def test_damage_is_found_and_named(store: ImageStore, tmp_path: Path, paths: Paths) -> None:
    image = store.import_dir(small_root(tmp_path / "a"), tag="a")
    (image.root / "etc/secret").write_text("tampered")
    with pytest.raises(Corrupt):
        store.verify(image)
    manifest = paths.images / image.digest / "manifest.json"
    whole = json.loads(manifest.read_text())
    for broken in ("", "{", json.dumps({**whole, "format": 99}), json.dumps({**whole, "extra": 1})):
        manifest.write_text(broken)
        with pytest.raises(Corrupt):
            store.get("a")
    manifest.unlink()
    with pytest.raises(Corrupt):
        store.get("a")
    (paths.images / "tags/a.json").write_text("[]")
    with pytest.raises(Corrupt):
        store.get("a")


def test_programs_of_a_build_do_not_see_the_users_secrets(
    store: ImageStore, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    program = fake / "mmdebstrap"
    text = program.read_text()
    program.write_text(text.replace("suite, output, s", "print(os.environ, flush=True)\nsuite, output, s"))
    lines: list[str] = []
    store.build(TINY, progress=lambda event: lines.append(event.message))
    seen = next(line for line in lines if line.startswith("environ("))
    assert "hunter2" not in seen
    assert "proxy.example" in seen
    assert os.environ["SECRET_TOKEN"] == "hunter2"
