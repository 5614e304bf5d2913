"""Scores that differ by rounding alone are equal, everywhere where tokens are ranked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymvlm.backbone.tower.watch import TowerView
from asymvlm.eviction.cache import lowest
from asymvlm.gates import hard_choice
from asymvlm.methods import Method, Tokens
from asymvlm.methods.base import LayerView
from asymvlm.methods.dart import DART
from asymvlm.methods.div_prune import DivPrune
from asymvlm.methods.holov import HoloV, _quotas
from asymvlm.methods.id_pruner import IDPruner
from asymvlm.methods.non_blank import NonBlank
from asymvlm.methods.prumerge import PruMergePlus
from asymvlm.methods.prumerge_plain import PruMerge
from asymvlm.methods.random import Random
from asymvlm.methods.scope import SCOPE
from asymvlm.methods.sparse_vlm import SparseVLM
from asymvlm.methods.vis_pruner import VisPruner
from asymvlm.methods.vision_zip import VisionZip
from asymvlm.methods.vlm_pruner import VLMPruner
from asymvlm.selectors import best, gap_count, rank, tie_groups, top_k


def draw(seed):
    return torch.Generator().manual_seed(seed)


def rounded(scores, seed):
    """The same scores as another order of summation might give them.

    Up to 2 units in the last place away.
    """
    last = torch.randint(-2, 3, scores.shape, generator=draw(seed)).to(scores)
    return scores * (1 + 2.0**-23 * last)


@pytest.mark.parametrize("low,high", [(-6, 0), (0, 1), (3, 9)], ids=["attention", "units", "large"])
def test_equal_scores_keep_their_order_whatever_rounding_does(low, high):
    """Repeated values of many magnitudes, none of which may stand on a border where rounding splits
    them.
    """
    values = 10 ** torch.linspace(low, high, 700)[torch.randperm(700, generator=draw(0))]
    scores = values[torch.arange(2100) % 700]
    expected = torch.tensor(sorted(range(2100), key=lambda at: (-float(scores[at]), at)))
    assert torch.equal(rank(scores), expected)
    for seed in range(5):
        noisy = rounded(scores, seed)
        assert not torch.equal(noisy, scores) and torch.equal(rank(noisy), expected)
        assert (
            torch.equal(top_k(noisy, 1001), expected[:1001].sort().values)
            and best(noisy) == expected[0]
        )


def test_differences_of_large_terms_keep_their_order():
    """A linear predictor near zero.

    The error of a sum is that of its terms, not of what is left of them.
    """
    words = torch.randn(40, 64, generator=draw(1), dtype=torch.double)
    weight = torch.randn(64, generator=draw(2), dtype=torch.double)
    words -= (
        (words @ weight)[:, None]
        * weight
        / weight.square().sum()
        * torch.linspace(0, 1, 40)[:, None]
    )
    exact = (words @ weight).repeat(3)
    noisy = exact.float() + 4e-7 * float(exact.abs().median()) * torch.randn(
        120, generator=draw(3)
    ).clamp(-1.5, 1.5)
    assert not torch.equal(
        noisy.argsort(descending=True, stable=True), exact.argsort(descending=True, stable=True)
    )
    assert torch.equal(rank(noisy), rank(exact))


@pytest.mark.parametrize("exponent", [1.0, 3.0], ids=["normal", "attention over decades"])
def test_different_scores_stay_apart(exponent):
    for seed in range(5):
        scores = torch.randn(5000, generator=draw(seed))
        scores = scores if exponent == 1 else (exponent * scores).softmax(0)
        sizes = tie_groups(scores).bincount()
        above = scores.abs() > 1e-3 * scores.abs().median()
        assert sizes[tie_groups(scores)[above]].max() <= 5, "chains are short"
        assert (sizes > 1).sum() < 200 and sizes.max() <= 6


NUMBERS = st.sampled_from([-torch.inf, -2.0, -1e-3, 0.0, 1e-30, 0.5, 0.5000001, 3.0, torch.inf])


@given(
    st.lists(NUMBERS, min_size=1, max_size=30), st.randoms(use_true_random=False), st.integers(0, 5)
)
@settings(deadline=None)
def test_groups_belong_to_the_scores_alone(values, shuffle, padding):
    """The same after a permutation, beside other rows, and with padding anywhere."""
    scores = torch.tensor(values)
    groups = tie_groups(scores)
    for first, value in zip(groups.tolist(), values, strict=True):
        pairs = [pair for pair in zip(groups.tolist(), values, strict=True) if pair[1] > 0]
        assert all((first < other) >= (value > second * (1 + 1e-3)) for other, second in pairs)
        assert all(
            first == other
            for other, second in zip(groups.tolist(), values, strict=True)
            if second == value
        )
    order = list(range(len(values)))
    shuffle.shuffle(order)
    assert torch.equal(tie_groups(scores[order]), groups[order])
    padded = torch.cat([torch.full((padding,), -torch.inf), scores])
    assert torch.equal(tie_groups(torch.stack([padded, padded.flip(0)]))[0, padding:], groups)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_types(dtype):
    scores = torch.tensor([3, 1, 3, 2], dtype=dtype)
    assert rank(scores).tolist() == [0, 2, 3, 1] and best(scores[:1]) == 0
    large = torch.tensor([2**20, 2**20 + 1]).to(dtype)
    assert rank(large).tolist() == ([1, 0] if dtype == torch.int64 else [0, 1]), (
        "whole numbers are compared exactly"
    )
    assert rank(torch.full((9,), 7).to(dtype)).tolist() == list(range(9))


def test_the_widest_gap_is_found_whatever_rounding_does():
    even, late = torch.linspace(0, 1, 11), torch.tensor([1.0, 0.9, 0.6, 0.5, 0.2, 0.1])
    for seed in range(8):
        assert gap_count(rounded(even, seed)) == 11, "all gaps are equal"
        assert gap_count(rounded(late, seed)) == 2, "of equal ones the first"


@pytest.mark.parametrize("noisy", [False, True])
def test_the_cache_takes_the_oldest_of_equals_however_many_leave(noisy):
    """Rows that need different counts equal their rows alone, whose slots are in another order.

    What must stay does not matter.
    """
    score = 10 ** (4 * torch.rand(3, 20, generator=draw(0)))[:, torch.arange(60) % 20]
    score[2] = torch.inf  # a policy may say so
    position = torch.stack([torch.randperm(60, generator=draw(row)) for row in range(3)])
    may = torch.rand(3, 60, generator=draw(4)) < 0.7
    given = rounded(score, 1) if noisy else score
    for row in range(3):
        ages = sorted(
            may[row].nonzero()[:, 0].tolist(),
            key=lambda at: (float(score[row, at]), int(position[row, at])),
        )
        other = torch.randperm(60, generator=draw(5))
        for count in (1, 2, 7, 25):
            assert lowest(given, may, position, count)[row].tolist() == ages[:count]
            alone = lowest(
                rounded(given[row : row + 1, other], 2),
                may[row : row + 1, other],
                position[row : row + 1, other],
                count,
            )
            assert other[alone[0]].tolist() == ages[:count]


def test_gates_choose_what_pruning_keeps():
    scores = torch.rand(2, 5, generator=draw(0))[:, torch.arange(20) % 5]
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 13:] = False
    chosen = hard_choice(rounded(scores, 1), mask, torch.tensor([7.0, 6.0]))
    assert [row.nonzero()[:, 0].tolist() for row in chosen] == [
        top_k(scores[0], 7).tolist(), top_k(scores[1, :13], 6).tolist()
    ]  # fmt: skip


class Scores(Method):
    def score(self, tokens):
        return tokens.tower().attention


METHODS = {
    "top-k": Scores,
    "dart": DART,
    "div_prune": DivPrune,
    "holov": HoloV,
    "id_pruner": lambda: IDPruner(Scores()),
    "non_blank": NonBlank,
    "prumerge": PruMerge,
    "prumerge_plus": PruMergePlus,
    "random": Random,
    "scope": SCOPE,
    "sparse_vlm": SparseVLM,
    "vis_pruner": VisPruner,
    "vision_zip": VisionZip,
    "vlm_pruner": VLMPruner,
}


def repeated(seed):
    """Tokens of 20 words, each four times; `seed` None is exact, others are rounded differently."""

    def numbers(columns, start, *shape):
        made = torch.randn(*shape, 20, columns, generator=draw(start))[
            ..., torch.arange(80) % 20, :
        ]
        return made if seed is None else rounded(made, seed + start)

    attention = numbers(1, 1)[:, 0].exp()
    heads = numbers(4, 5).mT.softmax(-1)[:, None]
    view = TowerView(attention, lambda: attention, numbers(8, 2), numbers(8, 3), 2)
    below = LayerView(
        numbers(8, 4),
        torch.ones(3, 8),
        lambda rows: heads.expand(-1, 3, -1)[:, rows],
        lambda rows: heads.expand(-1, 3, -1)[:, rows],
        lambda states: states,
    )
    place = torch.arange(80)

    def refused(*_):
        raise AssertionError("no method of this file asks for it")

    return Tokens(
        vision=numbers(8, 6),
        text=torch.randn(3, 8, generator=draw(7)),
        text_ids=torch.arange(3),
        question=torch.ones(3, dtype=torch.bool),
        grid=torch.stack([torch.zeros_like(place), place // 8, place % 8], dim=-1),
        tower=lambda: view,
        pixel_contrast=lambda: numbers(1, 8)[:, 0].relu(),
        dense_attention=refused,
        at_resolution=refused,
        below=lambda: below,
    )


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_the_same_whatever_rounding_does(name):
    for count in (3, 11, 30, 57):
        exact = METHODS[name]().select(repeated(None), count).tolist()
        for seed in range(100, 900, 100):
            assert METHODS[name]().select(repeated(seed), count).tolist() == exact


def test_quotas_of_equal_parts_are_equal():
    for seed in range(8):
        shares = rounded(torch.full((16,), 1 / 16), seed)
        assert _quotas(shares, [16] * 16, 64) == [4] * 16
