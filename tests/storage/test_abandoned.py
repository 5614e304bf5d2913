"""Drafts of commands that were killed are removed by the next one, and nobody else's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from asymvlm.errors import DataError
from asymvlm.storage import abandoned
from asymvlm.storage.atomic import draft_directory, draft_file, publish_directory


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def hold(kind, place, ready):
    with kind(place) as draft:
        (draft / "part" if draft.is_dir() else draft).write_text("half")
        ready.set()
        signal.pause()


@pytest.fixture(params=[draft_file, draft_directory])
def writer(request, tmp_path):
    """A process that holds a draft of `tmp_path / "made"`."""
    processes = multiprocessing.get_context("fork")
    ready = processes.Event()
    process = processes.Process(target=hold, args=(request.param, tmp_path / "made", ready))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("kind", [draft_file, draft_directory])
def test_drafts_of_the_killed_are_removed(writer, tmp_path, kind):
    """By the next writer in that folder, whatever it writes."""
    (left,) = names(tmp_path)
    with kind(tmp_path / "other"):
        assert left in names(tmp_path), "a living one's stays"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert left in names(tmp_path)
    with kind(tmp_path / "other"):
        assert left not in names(tmp_path)


def test_files_of_others_stay(tmp_path):
    for name in (".made-1234", ".made.tmp", "made-draft", ".asymvlm"):
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    with draft_file(tmp_path / "made"):
        pass
    assert names(tmp_path) == sorted([*before, "made"])


def test_what_was_put_aside_comes_back(tmp_path, monkeypatch):
    """A kill between two renames, where names cannot be exchanged at once."""
    place = tmp_path / "made"
    place.mkdir()
    (place / "weights").write_text("old")
    replace = os.replace

    def killed(source, target):
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr("asymvlm.storage.atomic._exchanged", lambda *_: False)
    with draft_directory(place) as draft:
        monkeypatch.setattr(os, "replace", killed)
        (draft / "weights").write_text("new")
        with pytest.raises(KeyboardInterrupt):
            publish_directory(draft, place, ["weights"])
        monkeypatch.setattr(os, "replace", replace)
        assert not place.exists() and any(name.endswith("-aside") for name in names(tmp_path))
    with draft_file(tmp_path / "other"):
        assert (place / "weights").read_text() == "old"


def test_errors_of_the_disk_name_the_file(tmp_path):
    """A library's own error, and a file elsewhere."""
    place = tmp_path / "made"
    with pytest.raises(DataError, match=f"^{place}: No space left"), draft_file(place):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(DataError, match=r"^/elsewhere/cache: Read-only"), draft_file(place):
        raise OSError(30, "Read-only file system", "/elsewhere/cache")
    with pytest.raises(OSError, match="bad descriptor"), draft_file(place):
        raise OSError(9, "bad descriptor")
    assert not names(tmp_path)


def test_locks_that_a_file_system_does_not_know_remove_nothing(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(38, "Function not implemented")

    left = Path(tmp_path / ".made.asymvlm-draft-abc")
    left.write_text("half")
    monkeypatch.setattr(abandoned.fcntl, "flock", unknown)
    with draft_file(tmp_path / "made") as draft:
        draft.write_text("whole")
    assert left.exists() and (tmp_path / "made").read_text() == "whole"
