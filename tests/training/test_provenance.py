"""What a training writes into a scorer's config can be read by everybody."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from asymvlm.scorers import Scorer
from asymvlm.scorers.diagonal import DiagonalScorer
from asymvlm.training.callbacks import ExportScorer
from asymvlm.training.provenance import provenance


def test_metrics_that_are_no_numbers_are_null():
    metrics = {"val/loss": 0.25, "val/ndcg": float("nan"), "val/keep": float("inf"), "lr": 1.0}
    trainer = SimpleNamespace(
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
        datamodule=None,
        current_epoch=0,
        global_step=3,
    )
    written = provenance(trainer, {"name": "t"}, None)
    assert written["training"]["metrics"] == {"val/loss": 0.25, "val/ndcg": None, "val/keep": None}
    json.dumps(written, allow_nan=False)


class Elsewhere(Scorer):
    kind = "elsewhere"

    def forward(self, batch):
        return batch.vision.sum(-1)


def test_a_scorer_that_could_never_be_loaded_is_refused_before_training(tmp_path):
    trainer = SimpleNamespace(checkpoint_callback=object(), default_root_dir=tmp_path)
    callback = ExportScorer()
    with pytest.raises(ValueError, match=r"model.scorer: kind 'elsewhere' is none that a scorer"):
        callback.check(trainer, SimpleNamespace(scorer=Elsewhere(4)), None)
    callback.check(trainer, SimpleNamespace(scorer=DiagonalScorer(4)), None)
