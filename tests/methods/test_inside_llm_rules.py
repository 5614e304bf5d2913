"""Published rules inside the LLM, by hand on a few tokens."""

from __future__ import annotations

import math

import torch
from support.layer_tokens import chosen, make

from asymvlm.methods.dart import DART
from asymvlm.methods.fast_v import FastV
from asymvlm.methods.pyramid_drop import PyramidDrop
from asymvlm.methods.sparse_vlm import SparseVLM


def test_fast_v_by_hand():
    """Rows of two heads: the last row's means are 0.3, 0.35 and 0.15.

    The first row, or one head, would say otherwise.
    """
    attention = [[[0.0, 0.0, 0.9], [0.1, 0.5, 0.2]], [[0.0, 0.0, 0.9], [0.5, 0.2, 0.1]]]
    tokens = make([[1.0]] * 3, text=[[0.0]] * 2, attention=attention)
    torch.testing.assert_close(FastV().score(tokens), torch.tensor([0.3, 0.35, 0.15]))
    assert chosen(FastV(), tokens, 1) == [1]
    assert FastV(layer=3).stages(5, 9, 32) == {3: 5}


def test_pyramid_drop_by_hand():
    """Half of what is left at every stage where an eighth is asked for, and the scores of the last
    row.
    """
    assert PyramidDrop().stages(72, 576, 32) == {8: 288, 16: 144, 24: 72}
    assert PyramidDrop().stages(2, 16, 4) == {1: 8, 2: 4, 3: 2}
    assert PyramidDrop().stages(2, 8, 3) == {1: 4, 2: 2}, "three layers have room for two stages"
    attention = [[[0.0, 0.0, 0.9], [0.1, 0.5, 0.2]], [[0.0, 0.0, 0.9], [0.5, 0.2, 0.1]]]
    # Of its own layer, or of the layer below.
    tokens = make([[1.0]] * 3, text=[[0.0]] * 2, attention=torch.zeros(1, 2, 3), own=attention)
    torch.testing.assert_close(PyramidDrop().score(tokens)[1], torch.tensor(0.35))
    assert not PyramidDrop(own_layer=False).score(tokens).any()
    assert PyramidDrop(own_layer=False).deviations and not PyramidDrop().deviations


def test_dart_by_hand():
    """Norms of keys: vision 1, 3, 4, 2, 1 (by L2 the third is still last: 2.83 < 3).

    Question 1 and 5, what stands before it 90.

    Least like the vision pivot (1, 0): -1 of token 3, then -0.95 of token 4, whose dot product, -3,
    is lower. Least like the text pivot (0, -2): -1 of token 1.
    """
    tokens = make(
        [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [-1.0, 0.0], [-3.0, 1.0]],
        keys=[[1.0, 0.0], [0.0, 3.0], [-2.0, -2.0], [1.0, 1.0], [0.0, 1.0]],
        text=[[1.0, 1.0], [1.0, 1.0], [0.0, -2.0]],
        text_keys=[[90.0, 0.0], [1.0, 0.0], [0.0, -5.0]],
        question=[False, True, True],
    )
    one_of_each = DART(vision_pivots=1, text_pivots=1)
    assert chosen(one_of_each, tokens, 1) == [2]
    assert chosen(one_of_each, tokens, 2) == [2, 3]
    assert chosen(one_of_each, tokens, 3) == [1, 2, 3], "one from each pivot"
    assert chosen(one_of_each, tokens, 4) == [1, 2, 3, 4], "two from the first"


def test_dart_compares_states_behind_the_final_norm():
    """To (1, 1), (1, -0.2) has a cosine of 0.56 and (-0.5, 1) one of 0.32.

    With the second number ten times as large they are -0.85 and 0.99.
    """
    tokens = make(
        [[1.0, 1.0], [1.0, -0.2], [-0.5, 1.0]],
        keys=[[9.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        norm=lambda states: states * torch.tensor([1.0, 10.0]),
    )
    assert chosen(DART(vision_pivots=1, text_pivots=0), tokens, 2) == [0, 1]
    as_they_are = DART(vision_pivots=1, text_pivots=0, final_norm=False)
    assert chosen(as_they_are, tokens, 2) == [0, 2]
    assert len(as_they_are.deviations) == len(DART().deviations) + 1


def test_sparse_vlm_by_hand():
    """Softmax over the question: 0.45, 0.45 and 0.1, so the first two rate.

    What stands before the picture does not.
    """
    text = [[50.0, 0.0], [math.log(4.5), 0.0], [math.log(4.5), 0.0], [0.0, 0.0]]
    rows = [[0.0, 0.0, 0.9], [0.2, 0.5, 0.0], [0.4, 0.1, 0.0], [0.0, 0.0, 0.9]]
    other_head = [[0.0, 0.0, 0.9], [0.4, 0.1, 0.2], [0.4, 0.1, 0.2], [0.0, 0.0, 0.9]]
    tokens = make(
        [[1.0, 0.0]] * 3,
        text=text,
        attention=[rows, other_head],
        question=[False, True, True, True],
    )
    torch.testing.assert_close(SparseVLM().score(tokens), torch.tensor([0.35, 0.2, 0.1]))
    # Behind layers 2, 6 and 15.
    assert SparseVLM().stages(72, 576, 32) == {3: 288, 7: 144, 16: 72}
    assert SparseVLM(layers=(2, 6)).stages(4, 64, 32) == {2: 16, 6: 4}


def test_sparse_vlm_finds_raters_in_the_llms_inputs():
    """There the second text token alone is turned to, in the layer's states the first alone."""
    tokens = make(
        [[1.0], [1.0]],
        text=[[3.0], [0.0]],
        attention=[[[0.5, 0.1], [0.1, 0.5]]],
        inputs=(torch.ones(4, 1), torch.tensor([[0.0], [3.0]])),
    )
    torch.testing.assert_close(SparseVLM().score(tokens), torch.tensor([0.1, 0.5]))
    anew = SparseVLM(raters_once=False)
    torch.testing.assert_close(anew.score(tokens), torch.tensor([0.5, 0.1]))
    assert len(anew.deviations) == len(SparseVLM().deviations) + 1


def test_sparse_vlm_recycles_by_hand():
    """Four of 13 tokens with all of the dropped recycled.

    9 + 1 of them make 10 / 10 + 1 = 2 clusters, so two stay by score.

    The other 11 on a line, by half the squared distance to the nearest: 0 and 0.1 are the densest
    (0.995; of equals the earlier), 10 and 10.2 next (0.980), 30 and 31 are at 0.607, -60 at 0.
    Distances to what is denser: 0 has the largest there is, 10 has 9.9, 30 has 19 and -60 has 59.
    Products: 90.5, 9.7, 11.5 and 0. So 0 and 30 are centres; tokens at 10 and at -60 are nearer to
    0.
    """
    places = [500.0, 2.0, 11.0, 1.0, -1.0, 10.0, 0.0, 600.0, 30.0, -60.0, 10.2, 0.1, 31.0]
    scores = torch.full((13,), 0.01)
    scores[0], scores[7] = 0.5, 0.3
    tokens = make([[one] * 4 for one in places], attention=scores[None, None])
    method = SparseVLM(recycle=1.0)
    kept = method.select(tokens, 4)
    assert kept.tolist() == [0, 6, 7, 8]
    near_0 = (2.0 + 11.0 + 1.0 - 1.0 + 10.0 + 0.0 - 60.0 + 10.2 + 0.1) / 9
    torch.testing.assert_close(
        method.merge(tokens, kept)[:, 3], torch.tensor([500.0, near_0, 600.0, 30.5])
    )
    plain = SparseVLM(recycle=0)
    assert chosen(plain, tokens, 4) == [0, 1, 2, 7], "of equal scores the earlier ones"
    assert torch.equal(plain.merge(tokens, kept), tokens.vision[kept])


def test_sparse_vlm_leaves_one_place_to_the_score():
    tokens = make([[1.0]] * 12, attention=[[[0.0] * 11 + [0.5]]])
    assert chosen(SparseVLM(), tokens, 1) == [11]


def test_sparse_vlm_recycles_the_best_of_the_dropped():
    """11 of 46 at three in ten: int(0.3 * 35) + 1 = 11 make 11 / 10 + 1 = 2 clusters.

    9 stay by score, int(0.3 * 37) + 1 = 12 are fused.
    """
    scores = torch.linspace(1, 0, 46)
    tokens = make(
        torch.randn(46, 3, generator=torch.Generator().manual_seed(0)), attention=scores[None, None]
    )
    kept = SparseVLM().select(tokens, 11)
    assert kept[:9].tolist() == list(range(9)) and int(kept.max()) < 9 + 12
    merged = SparseVLM().merge(tokens, kept)
    assert torch.equal(merged[:9], tokens.vision[:9])
    groups = [
        group
        for group in _pairs_of_means(tokens.vision[9:21])
        if torch.allclose(group, merged[9:], atol=1e-5)
    ]
    assert len(groups) == 1, "the two means are those of the 12 in two groups"


def _pairs_of_means(rows):
    """Means of every way to make two groups."""
    for code in range(1, 2 ** len(rows) - 1):
        first = torch.tensor([bool(code >> place & 1) for place in range(len(rows))])
        yield torch.stack([rows[first].mean(0), rows[~first].mean(0)])
