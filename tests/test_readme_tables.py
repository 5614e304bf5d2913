"""Every command in the README that measures runs on small settings, beside a scorer that nobody
trained; the others are in test_readme.
"""

from __future__ import annotations

import pytest
from support import readme

from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.distillation.teacher import vlm_hidden_size
from asymvlm.scorers import BudgetHead, scorers

pytestmark = pytest.mark.filterwarnings("default")  # as a user would see them


@pytest.fixture(scope="module")
def repository(tmp_path_factory, page_samples):
    copy = tmp_path_factory.mktemp("repository")
    readme.small_copy(copy, page_samples)
    width = vlm_hidden_size(str(copy / "checkpoints/tiny-teacher"))
    trained = TrainedScorer(scorers()["cross_attention"](width), BudgetHead(width), ())
    save_scorer(trained, copy / "checkpoints/tiny/scorer", "card")
    return copy


@pytest.mark.parametrize("command", readme.commands(measures=True))
def test_command(repository, command, monkeypatch):
    readme.run(command, repository, monkeypatch)
