"""Samples on disk: the same values back, and what cannot be kept is refused."""

from __future__ import annotations

import datasets
import pytest
import torch

from asymvlm.distillation.sample import DistillationSample, from_record, to_record
from asymvlm.errors import DataError
from asymvlm.training.observed_samples import CachedSamples


@pytest.fixture
def sample():
    return DistillationSample(
        vision=torch.linspace(-2, 2, 32).view(4, 8),
        text=torch.ones(3, 8),
        text_mask=torch.tensor([True, True, False]),
        grid=torch.arange(12).view(4, 3),
        importance=torch.full((4,), 0.25),
        evidence=torch.zeros(4),
        key_boxes=torch.zeros(4),
        dense_answer_share=torch.tensor([float("nan")]),
    )


def test_samples_come_back(sample):
    back = from_record(to_record(sample))
    torch.testing.assert_close(vars(back), vars(sample), atol=2e-3, rtol=0, equal_nan=True)


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_what_half_precision_cannot_hold_is_refused(sample, value):
    sample.vision[1, 2] = value
    with pytest.raises(ValueError, match=r"^vision: .* not finite in torch\.float16"):
        to_record(sample)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"importance": torch.tensor([0.5, float("nan"), 0.25, 0.25]).numpy().tobytes()},
        {"vision": b"\0" * 3},
        {"grid": b""},
    ],
)
def test_a_damaged_cache_is_one_line_that_names_it(sample, spoiled, tmp_path):
    """Not a loss that is NaN, and advice about the learning rate."""
    records = datasets.Dataset.from_list([to_record(sample), to_record(sample) | spoiled])
    cached = CachedSamples(records, tmp_path / "train-1")
    assert cached[0].importance.sum() == 1
    with pytest.raises(DataError, match=r"train-1 is damaged at sample 1 .* made anew$"):
        cached[1]
