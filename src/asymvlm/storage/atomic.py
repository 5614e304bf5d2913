"""Files and directories that appear whole or not at all.

Each is drafted beside its place, so that it is on the same file system, written through to the
disk, and renamed. Drafts have names of their own: two commands may write in one folder.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, disk_error
from .abandoned import new_draft, put_aside
from .writable import check_writable


@contextmanager
def draft_file(place: Path) -> Iterator[Path]:
    """Give a path beside `place` to write to, which becomes `place` when the block ends well.

    The file has the permissions of the one that it replaces, or those that the folder's umask
    gives. Where `place` is a link, the file behind it is replaced.
    """
    given, place = place, Path(os.path.realpath(place))
    empty = functools.partial(_empty_file, suffix=place.suffix)
    with _disk_errors_name(given), new_draft(place, empty) as draft:
        try:
            mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else _new_mode(0o666)
            yield draft
            draft.chmod(mode)
            _through_to_disk(draft)
            os.replace(draft, place)
            _through_to_disk(place.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def draft_directory(place: Path) -> Iterator[Path]:
    """Give an empty directory beside `place`; what is left of it at the end is removed."""
    with _disk_errors_name(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_draft(place, tempfile.mkdtemp) as draft:
            try:
                draft.chmod(_new_mode(0o777))
                yield draft
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def _empty_file(**place: Any) -> str:
    handle, name = tempfile.mkstemp(**place)
    os.close(handle)
    return name


@contextmanager
def _disk_errors_name(place: Path) -> Iterator[None]:
    """Have errors of the disk, however a library has put them, name `place`.

    Raises DataError for these.
    """
    try:
        yield
    except Exception as error:
        reason = disk_error(error, place)
        if reason is None or isinstance(error, DataError):
            raise
        raise DataError(f"{reason}; what was there before is as it was") from error


def publish_directory(draft: Path, place: Path, own: Collection[str] = ()) -> None:
    """Rename the directory `draft` to `place`, at once.

    `own` names what belongs to an earlier one at `place` and is replaced; everything else that
    lies there stays. Raises OSError where `place` holds something and nothing of it is `own`.
    """
    for path in [*draft.rglob("*"), draft]:
        path.chmod(_new_mode(0o777 if path.is_dir() else 0o666))
        _through_to_disk(path)
    if own and place.is_dir() and any(place.iterdir()):
        for entry in place.iterdir():
            if entry.name not in own:
                _copy_by_link(entry, draft / entry.name)
        _exchange(draft, place)
    else:
        os.replace(draft, place)
    _through_to_disk(place.parent)


def check_replaceable(place: Path, is_own: Callable[[Path], bool], kind: str) -> Path:
    """Return the absolute path of a directory that is absent, empty, or one of `kind`.

    Raises ValueError, saying what is in the way, for any other, and where none can be made.
    """
    target = Path(os.path.realpath(place))
    if target.is_dir():
        entries = sorted(entry.name for entry in target.iterdir())
        if entries and not is_own(target):
            raise ValueError(
                f"{place} is no {kind} and not empty ({', '.join(entries[:3])}"
                f"{', ...' if entries[3:] else ''}); name a new or empty folder"
            )
    elif target.exists():
        raise ValueError(f"{place} is a file; name a folder for the {kind}")
    around = next(parent for parent in target.parents if parent.exists())
    if not around.is_dir():
        raise ValueError(f"{place}: {around} is a file; name a folder for the {kind}")
    if not os.access(around, os.W_OK | os.X_OK):
        raise ValueError(f"{place}: {around} cannot be written; name another folder")
    return target


def check_results(folder: Path, names: Collection[str], sign: str) -> Path:
    """Check a folder for results: none of `names` in it may be somebody else's.

    They are a command's own where `sign` lies beside them. Raises ValueError for another folder,
    DataError for one that cannot be written.
    """
    taken = [name for name in names if (folder / name).exists()]
    if taken and not (folder / sign).exists():
        raise ValueError(
            f"output: {folder} holds a {taken[0]} that is no result; name another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output: {folder} is a file; name a folder")
    check_writable(folder, "--output")
    return folder


def _copy_by_link(source: Path, copy: Path) -> None:
    """Hard-link all files, or copy them where the file system has no links."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, copy, symlinks=True, copy_function=_link)
    else:
        _link(str(source), str(copy))


def _link(source: str, copy: str) -> None:
    try:
        os.link(source, copy, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, copy, follow_symlinks=False)


def _exchange(draft: Path, place: Path) -> None:
    """Swap the names of two directories, so that `place` is there all the time.

    Where the system or the file system cannot do that, by renames: `place` is missing for a
    moment, and comes back if they fail.
    """
    if _exchanged(draft, place):
        return
    with put_aside(place, draft):
        os.replace(draft, place)


def _exchanged(first: Path, second: Path) -> bool:
    """Return whether Linux has swapped two names (renameat2 with RENAME_EXCHANGE)."""
    at_current_directory, exchange_names = -100, 2
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    old, new = os.fsencode(first), os.fsencode(second)
    return rename(at_current_directory, old, at_current_directory, new, exchange_names) == 0


def _new_mode(most: int) -> int:
    """Permissions of something new: `most` without the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return most & ~umask


def _through_to_disk(path: Path) -> None:
    """Flush files to the disk; raises OSError where it has no room."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
