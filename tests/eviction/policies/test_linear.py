"""The learned linear policy."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.entry_rows import Row

import asymvlm
from asymvlm.eviction.policies.linear import LinearEvictor


def test_the_learned_rule_reads_values(line):
    """Values of `Row` are positions: the oldest is worth least.

    Tokens that are written later are read too.
    """
    row = Row(LinearEvictor(line, sinks=1, recent=1), 4).add(["tttttt"])
    assert row.gone == [1, 2] and row.add(["t"]).gone == [1, 2, 3]
    torch.testing.assert_close(
        row.layer.entries.score[0].sort().values[-2:], torch.tensor([4.9, 5.9])
    )


@pytest.mark.parametrize("stored,says", [
    (None, "cannot be read"),
    ({"weight": torch.ones(1, 1)}, "must hold weight"),
    ({"weight": torch.ones(2, 1), "bias": torch.ones(1)}, "must hold weight"),
])  # fmt: skip
def test_a_learned_rule_that_is_none(tmp_path, stored, says):
    path = tmp_path / "line.safetensors"
    if stored is not None:
        save_file(stored, path)
    with pytest.raises(ValueError, match=says):
        LinearEvictor(path)


def test_a_learned_rule_of_another_model_is_refused_or_told_of(line, llava, teacher, tmp_path):
    says = r"for 1 layers with values of 1 numbers; \w+ has 2 with 40"
    with pytest.raises(ValueError, match=says), asymvlm.evict(llava, LinearEvictor(line)):
        pass
    save_file(
        {"weight": torch.ones(2, 40), "bias": torch.ones(2)},
        tmp_path / "old",
        metadata={"teacher": "model.safetensors:0"},
    )
    for model in (llava, type(llava).from_pretrained(teacher)):
        with (
            pytest.warns(UserWarning, match="weights: fitted to others than those of this"),
            asymvlm.evict(model, LinearEvictor(tmp_path / "old")) as report,
        ):
            model(input_ids=torch.tensor([[1, 2, 3]]))
        assert report.calls
