"""Files and folders that are written.

Whole or not at all, and nothing of anybody else's is lost.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

import pytest

from asymvlm.errors import DataError
from asymvlm.storage import atomic as drafts
from asymvlm.storage.atomic import check_results, draft_directory, draft_file, publish_directory


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_at_the_end(tmp_path):
    place = tmp_path / "results.json"
    with draft_file(place) as draft:
        draft.write_text("new")
        assert not place.exists() and draft.parent == tmp_path and draft.suffix == ".json"
    assert place.read_text() == "new" and names(tmp_path) == ["results.json"]


@pytest.mark.parametrize("failure", [ValueError("nan"), KeyboardInterrupt()])
def test_a_failure_leaves_the_file_before(tmp_path, failure):
    place = tmp_path / "results.json"
    place.write_text("old")
    with pytest.raises(type(failure)), draft_file(place) as draft:
        draft.write_text("ne")
        raise failure
    assert place.read_text() == "old" and names(tmp_path) == ["results.json"]


def test_a_disk_that_is_full_at_the_end_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    says = f"^{tmp_path}/file: No space left on device"
    with pytest.raises(DataError, match=says), draft_file(tmp_path / "file") as draft:
        draft.write_text("new")
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_two_writers_have_drafts_of_their_own(tmp_path):
    place, at_once = tmp_path / "file", threading.Barrier(8)

    def write(number):
        with draft_file(place) as draft:
            at_once.wait()
            draft.write_text(str(number) * 100_000)
            at_once.wait()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = place.read_text()
    assert len(text) == 100_000 and len(set(text)) == 1 and names(tmp_path) == ["file"]


@pytest.mark.parametrize("umask,mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with draft_file(tmp_path / "new") as draft:
            draft.write_text("x")
            draft.chmod(0o600)
        with draft_directory(tmp_path / "folder") as draft:
            (draft / "weights").write_text("x")
            (draft / "weights").chmod(0o600)
            publish_directory(draft, tmp_path / "folder")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder/weights").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o640)
    with draft_file(tmp_path / "file") as draft:
        draft.write_text("new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_file_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    with draft_file(tmp_path / "link") as draft:
        draft.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there/file").read_text() == "new"


@pytest.fixture(params=["exchanged", "renamed"])
def way(request, monkeypatch):
    if request.param == "renamed":
        monkeypatch.setattr(drafts, "_exchanged", lambda first, second: False)


@pytest.fixture
def place(tmp_path):
    """A folder with two own files, and with somebody's notes, results and a link."""
    folder = tmp_path / "scorer"
    (folder / "results/deep").mkdir(parents=True)
    for name in ("own", "stale", "notes", "results/deep/table"):
        (folder / name).write_text(f"old {name}")
    (folder / "link").symlink_to("notes")
    return folder


def rewrite(place):
    with draft_directory(place) as draft:
        (draft / "own").write_text("new")
        publish_directory(draft, place, ["own", "stale"])


def test_what_is_not_own_stays(place, way):
    rewrite(place)
    assert (place / "own").read_text() == "new" and not (place / "stale").exists()
    assert (place / "notes").read_text() == "old notes" and (place / "link").is_symlink()
    assert (place / "results/deep/table").read_text() == "old results/deep/table"
    assert names(place.parent) == ["scorer"]


def test_what_is_not_own_stays_where_links_are_not_possible(place, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    test_what_is_not_own_stays(place, None)


def test_results_of_somebody_else_are_not_written_over(tmp_path):
    names = ("table.md", "results.json")
    assert check_results(tmp_path / "new", names, "answers") == tmp_path / "new"
    (tmp_path / "notes.md").write_text("mine")
    check_results(tmp_path, names, "answers")
    (tmp_path / "table.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds a table\.md that is no result"):
        check_results(tmp_path, names, "answers")
    (tmp_path / "answers").mkdir()
    check_results(tmp_path, names, "answers")
    with pytest.raises(ValueError, match="is a file"):
        check_results(tmp_path / "notes.md", names, "answers")


KILLED = """
import os, pathlib, sys
from asymvlm.storage import atomic as drafts
at, seen = int(sys.argv[2]), 0
def count(event, arguments):
    global seen
    if event in ("os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "ctypes.dlsym"):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
place = pathlib.Path(sys.argv[1])
with drafts.draft_directory(place) as draft:
    (draft / "own").write_text("new")
    drafts.publish_directory(draft, place, ["own", "stale"])
print(seen)
"""


def test_a_kill_at_any_step_loses_nothing(tmp_path):
    """Before each rename, link, removal and change of permissions."""
    at, code = 0, -9
    while code == -9:
        at += 1
        folder = tmp_path / str(at) / "scorer"
        (folder / "results").mkdir(parents=True)
        for name in ("own", "stale", "results/table"):
            (folder / name).write_text("old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(at)], check=False)
        code = done.returncode
        assert (folder / "results/table").read_text() == "old"
        assert (folder / "own").read_text() in ("old", "new")
        assert (folder / "stale").exists() is ((folder / "own").read_text() == "old")
    assert code == 0 and at > 10
