"""Published rules on diversity, by hand on a few tokens."""

from __future__ import annotations

import pytest
import torch
from support.tower_tokens import Scores, at_angles, make

from asymvlm.methods import cd_pruner
from asymvlm.methods.cd_pruner import CDPruner
from asymvlm.methods.common.similarity import nearest_other, unit_rows
from asymvlm.methods.div_prune import DivPrune
from asymvlm.methods.id_pruner import IDPruner
from asymvlm.methods.scope import SCOPE
from asymvlm.methods.vis_pruner import VisPruner
from asymvlm.methods.vision_zip import VisionZip


def test_div_prune_by_hand():
    tokens = make(at_angles(0, 10, 50, 180, 200, lengths=[1, 7, 1, 1, 3.0]))
    # Nearest neighbours are 10, 10, 40, 20 and 20 degrees away: 2 is first. Farthest from it is 4
    # (150), then 0 (50 from 2).
    assert DivPrune().select(tokens, 1).tolist() == [2]
    assert DivPrune().select(tokens, 2).tolist() == [2, 4]
    assert DivPrune().select(tokens, 3).tolist() == [0, 2, 4]


def test_div_prune_finds_nearest_neighbours_block_by_block():
    unit = torch.nn.functional.normalize(torch.randn(1100, 16), dim=1)
    assert torch.allclose(nearest_other(unit), (unit @ unit.T).fill_diagonal_(-2).amax(1))


def test_cd_pruner_by_hand():
    vision = [[1.0, 0, 0], [0.96, 0.28, 0], [0.48, 0.64, 0.6], [0, 0, 1], [1, 0, 0]]
    # Importance 1, 0.9, 0.5, 0.2, 0.
    tokens = make(vision, states=[[-0.2], [-0.18], [-0.1], [-0.04], [0.0]])
    # 0 first, rho^2 = 1. What it leaves of the others: 0.0784, 0.7696, 1, 0; times rho^2: 0.064,
    # 0.192, 0.04, 0: token 2. What is new in token 2 is (0, 0.64, 0.6) / 0.8773. That leaves 0.0784
    # - 0.2043^2 = 0.0367 of token 1 and 1 - 0.6839^2 = 0.532 of token 3; times rho^2: 0.030 and
    # 0.021: token 1.
    assert CDPruner("clip").select(tokens, 2).tolist() == [0, 2]
    assert CDPruner("clip").select(tokens, 3).tolist() == [0, 1, 2]
    # The other sign: importance 0, 0.1, 0.5, 0.8, 1; 4 first, which leaves all of token 3.
    assert CDPruner("clip", sign=1).select(tokens, 2).tolist() == [3, 4]


def test_cd_pruner_takes_what_raises_the_determinant_most():
    vision, states = torch.randn(12, 8), torch.rand(12, 1)
    importance = (states.max() - states) / (states.max() - states.min())
    unit = torch.nn.functional.normalize(vision, dim=1)
    kernel, taken = (importance * (unit @ unit.T) * importance.T).double(), []
    for _ in range(6):
        taken.append(
            max(
                set(range(12)) - set(taken),
                key=lambda one: float(kernel[[*taken, one]][:, [*taken, one]].det()),
            )
        )
    assert CDPruner("clip").select(make(vision, states=states), 6).tolist() == sorted(taken)


def test_equal_relevance_and_equal_scores_leave_diversity():
    tokens = make(at_angles(0, 0, 90), states=[[0.2]] * 3)
    assert CDPruner("clip").select(tokens, 2).tolist() == [0, 2]
    assert IDPruner(Scores([0.2] * 3)).select(tokens, 2).tolist() == [0, 2]


# Of matrix products in fp32, and where torch is allowed TF32.
@pytest.mark.parametrize("rounding", [0, 1e-3])
def test_cd_pruner_beyond_the_rank_goes_by_dense_attention(rounding, monkeypatch):
    monkeypatch.setattr(cd_pruner, "unit_rows", lambda rows: (1 + rounding) * unit_rows(rows))
    tokens = make(torch.ones(6, 1), states=[[0.5], [-0.3], [0.2], [-0.9], [0.1], [0.7]])
    assert CDPruner("clip").select(tokens, 3).tolist() == [1, 3, 4]


def test_scope_by_hand():
    states = [
        [1.0, 0],
        [0.6, 0.8],
        [0, 1],
        [-1, 0],
    ]  # cosines: 01 0.6, 02 0, 03 -1, 12 0.8, 13 -0.6, 23 0
    tokens = make(torch.ones(4, 1), attention=[0.4, 0.2, 0.3, 0.1], states=states)
    # Coverage 1.6, 2.4, 1.8, 1; times attention 0.64, 0.48, 0.54, 0.1: token 0. Then 1.2 * 0.2, 1.2
    # * 0.3 and 1 * 0.1: token 2.
    assert SCOPE().select(tokens, 1).tolist() == [0]
    assert SCOPE().select(tokens, 2).tolist() == [0, 2]
    # Coverage alone: token 1 first; then 0.4, 0.2 and 1: token 3; then 0.4 and 0.2: token 0.
    assert SCOPE(alpha=0).select(tokens, 2).tolist() == [1, 3]
    assert SCOPE(alpha=0).select(tokens, 3).tolist() == [0, 1, 3]


def test_scope_takes_what_plain_greedy_takes():
    states, attention = torch.randn(200, 8), torch.rand(200)
    unit = torch.nn.functional.normalize(states, dim=1)
    cosine, covered, taken = unit @ unit.T, torch.zeros(200), []
    for _ in range(90):
        gain = (cosine - covered[:, None]).clamp_min(0).sum(0) * attention
        gain[taken] = -1
        taken.append(int(gain.argmax()))
        covered = covered.maximum(cosine[taken[-1]])
    assert SCOPE().select(make(states, attention=attention, states=states), 90).tolist() == sorted(
        taken
    )


def test_id_pruner_by_hand():
    tokens = make(at_angles(0, 0, 90, 180, lengths=[0.01, 2, 1, 5]))
    base = Scores([10.0, 9, 5, 0])  # importance 1, 0.9, 0.5, 0
    # 0 first. Then 0.45 - 0.5, 0.25 - 0 and 0 + 0.5: token 3. Then 0.45 - 0.5 and 0.25 - 0: token
    # 2.
    assert IDPruner(base).select(tokens, 2).tolist() == [0, 3]
    assert IDPruner(base).select(tokens, 3).tolist() == [0, 2, 3]
    assert IDPruner(base, trade=1.0).select(tokens, 2).tolist() == [0, 1]


def test_id_pruner_follows_its_base():
    base = Scores()
    base.layer = 3
    method = IDPruner(base)
    method.begin(["a sample"])
    assert (
        method.reads_tower,
        method.layer,
        method.budget(make(torch.ones(1, 1))),
        base.heard,
    ) == (True, 3, 0.3, ["a sample"])
    assert not IDPruner(DivPrune()).reads_tower


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: VisionZip(contextual=1.5), "contextual: 1.5"),
        (lambda: VisPruner(important=1.0), "important: 1.0"),
        (lambda: CDPruner("clip", sign=0.5), "sign: 0.5"),
        (lambda: IDPruner(Scores(), trade=-1), "trade: -1"),
    ],
)
def test_settings_out_of_range_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
