"""Loader workers without shared memory are refused before any work."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from asymvlm.errors import DataError, disk_error
from asymvlm.training.data import PagesData
from asymvlm.training.shared_memory import check_shared_memory


def no_locks():
    raise OSError(38, "Function not implemented")


def no_room(tensor):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space (28)")


@pytest.mark.parametrize(
    ("holder", "name", "fails"),
    [(multiprocessing, "Lock", no_locks), (torch.Tensor, "share_memory_", no_room)],
)
def test_workers_need_it(monkeypatch, tmp_path, holder, name, fails):
    monkeypatch.setattr(holder, name, fails)
    check_shared_memory(0)
    with pytest.raises(DataError, match=r"^data\.num_workers: 2 workers .*; set it to 0"):
        PagesData(root=str(tmp_path), num_workers=2).prepare_data()
    assert not list(tmp_path.iterdir()), "before any work"


def test_room_that_ends_later_is_named():
    error = RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")
    assert disk_error(error).startswith("/dev/shm, ")
