"""VLM-Pruner's rule, by hand and against a plain greedy one."""

from __future__ import annotations

import pytest
import torch
from support.layer_tokens import chosen, make, some
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asymvlm.methods.vlm_pruner import VLMPruner


def test_vlm_pruner_pivots_by_hand():
    """L1: 0, 10, 11, 7, 8. From (9, 2): 9.2, 2.2, -, 10.3, 5.4, so token 3.

    Then 7 (token 0) is more than 5 (token 4) and 2.2.
    """
    tokens = make(
        [[1.0, 0.0]] * 5, keys=[[0.0, 0.0], [10.0, 0.0], [9.0, 2.0], [0.0, 7.0], [4.0, 4.0]]
    )
    assert chosen(VLMPruner(pivots=1), tokens, 1) == [2]
    assert chosen(VLMPruner(pivots=2), tokens, 2) == [2, 3]
    assert chosen(VLMPruner(pivots=3), tokens, 3) == [0, 2, 3]


def test_vlm_pruner_grows_from_near_to_far_by_hand():
    """One row of five, diagonal 26^0.5. Cosines with the pivot.

    0.65 next to it, 0.6 at four columns.

    0.65 * (1 + 0.5 / 5.1) = 0.714 and 0.6 * (1 + 0.5 * 4 / 5.1) = 0.835, so the near one, which
    looked more alike, comes first. Tokens in between are alike. Of cosines below 0 the farther
    comes first.
    """
    first = [[0.0, 9.0], *[[0.0, 0.0]] * 4]
    near, far = [0.65, -((1 - 0.65**2) ** 0.5)], [0.6, 0.8]
    states = [[1.0, 0.0], near, [1.0, 0.0], [1.0, 0.0], far]
    assert chosen(VLMPruner(pivots=1), make(states, keys=first), 2) == [0, 1]
    assert chosen(VLMPruner(pivots=1, buffer=0.0), make(states, keys=first), 2) == [0, 4]
    states[1], states[4] = [-0.6, 0.8], [-0.6, -0.8]
    assert chosen(VLMPruner(pivots=1), make(states, keys=first), 2) == [0, 4]


def test_vlm_pruner_raises_the_threshold_by_hand():
    """Six tokens all alike in a row, diagonal 37^0.5.

    Redundancies are 1 + 0.082 a column, nothing is below 0.8, 0.9 or 1.0.

    At 1.1 the neighbour of the pivot comes; at 1.2 the next two are below and one is left to take:
    the nearer.
    """
    tokens = make([[1.0, 1.0]] * 6, keys=[[9.0, 0.0], *[[0.0, 0.0]] * 5])
    assert chosen(VLMPruner(pivots=1), tokens, 2) == [0, 1]
    assert chosen(VLMPruner(pivots=1), tokens, 3) == [0, 1, 2]
    assert chosen(VLMPruner(pivots=1), tokens, 6) == [0, 1, 2, 3, 4, 5]


def test_vlm_pruner_skips_passes_without_skipping_thresholds():
    """Tokens at 0, 18, 14 and -11 degrees: cosines with the first are 0.951, 0.970 and 0.982.

    Nothing is below 0.5.

    At 0.96 the second comes, to which the third, at 4 degrees (0.998), is too like, so that the
    fourth is next.
    """
    angles = torch.tensor([0.0, 18.0, 14.0, -11.0]).deg2rad()
    tokens = make(
        torch.stack([angles.cos(), angles.sin()], dim=-1), keys=[[9.0, 0.0], *[[0.0, 0.0]] * 3]
    )
    assert chosen(
        VLMPruner(pivots=1, buffer=0.0, block=1, threshold=0.5, step=0.46), tokens, 3
    ) == [0, 1, 3]


def test_vlm_pruner_compares_blocks_not_their_members():
    """Tokens 1 and 2 are the same and unlike the pivot. In one block both come.

    One at a time, the third does instead of the second.
    """
    tokens = make(
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.75, 0.66]], keys=[[9.0, 0.0], *[[0.0, 0.0]] * 3]
    )
    assert chosen(VLMPruner(pivots=1, buffer=0.0, block=2), tokens, 3) == [0, 1, 2]
    assert chosen(VLMPruner(pivots=1, buffer=0.0, block=1), tokens, 3) == [0, 1, 3]


def test_vlm_pruner_pictures_are_a_diagonal_apart():
    """The second picture, 2 x 2, has the larger diagonal.

    Its tokens are all at distance 1, so 0.6 * 1.5 = 0.9 waits for
    0.7 * (1 + 0.5 / 8^0.5) = 0.82 of the first picture.
    """
    grid = [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    states = [[1.0, 0.0], [0.7, 0.51**0.5], [0.6, -0.8], *[[1.0, 0.0]] * 3]
    assert chosen(
        VLMPruner(pivots=1), make(states, keys=[[9.0, 0.0], *[[0.0, 0.0]] * 5], grid=grid), 2
    ) == [0, 1]


def test_vlm_pruner_merges_by_hand():
    """Cosines by the two channels that vary: 0.6 and 0.8 of tokens 2 and 3 with token 0.

    Token 4 is unlike both kept ones.

    Token 0 becomes 0.3 of itself and 0.7 of (0.6 * token 2 + 0.8 * token 3) / 1.4, in all channels;
    token 1 stays. With a token 5 that goes to token 1, token 4 still does not count.
    """
    states = [[1.0, 0.0, 5.0], [0.0, -1.0, 5.0], [0.6, 0.8, 5.0], [0.8, 0.6, 5.0], [-1.0, 0.5, 5.0]]
    tokens = make(states)
    got = VLMPruner(channels=2).merge(tokens, torch.tensor([0, 1]))
    x, y = (0.6 * 0.6 + 0.8 * 0.8) / 1.4, (0.6 * 0.8 + 0.8 * 0.6) / 1.4
    torch.testing.assert_close(got[0], torch.tensor([0.3 + 0.7 * x, 0.7 * y, 5.0]))
    assert torch.equal(got[1], tokens.vision[1])
    got = VLMPruner(channels=2).merge(make([*states, [0.6, -0.8, 5.0]]), torch.tensor([0, 1]))
    torch.testing.assert_close(got[1], torch.tensor([0.7 * 0.6, -0.3 - 0.7 * 0.8, 5.0]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pictures", [1, 2])
def test_vlm_pruner_is_the_published_greedy(seed, pictures):
    """The same as the rule with all N x N cosines and distances, every block against everything
    kept so far.
    """
    tokens = some(60, pictures, seed=seed)
    # So that several passes are needed.
    tokens.vision[:40] = tokens.vision[:1] + 0.7 * tokens.vision[:40]
    for count in (5, 20, 55):
        assert chosen(VLMPruner(channels=8), tokens, count) == _greedy(tokens, count)


def _greedy(tokens, count, channels=8, block=16):
    states = tokens.vision[:, tokens.vision.var(0).topk(channels).indices]
    cosine = torch.cosine_similarity(states[:, None], states[None], dim=-1)
    place = tokens.grid[:, 1:].float()
    diagonal = torch.empty(len(place))
    for picture in tokens.grid[:, 0].unique():
        here = tokens.grid[:, 0] == picture
        diagonal[here] = (place[here].amax(0) + 1).norm()
    apart = torch.maximum(diagonal[:, None], diagonal)
    distance = (
        torch.where(
            tokens.grid[:, :1] == tokens.grid[:, 0], (place[:, None] - place).norm(dim=-1), apart
        )
        / diagonal.max()
    )
    keys = tokens.below().keys
    kept = [int(keys.norm(p=1, dim=-1).argmax())]
    while len(kept) < min(4, count):
        kept.append(int((keys[:, None] - keys[kept]).norm(dim=-1).amin(-1).argmax()))

    def redundancy(rows):
        buffered = 1 + 0.5 * distance[rows][:, kept].amin(-1, keepdim=True)
        return (cosine[rows][:, kept] * buffered).amax(-1)

    threshold = 0.8
    while len(kept) < count:
        rest = torch.tensor([one for one in range(len(place)) if one not in kept])
        for part in rest[redundancy(rest).argsort(stable=True)].split(block):
            now = redundancy(part)
            new = part[now < threshold]
            if len(kept) + len(new) > count:
                new = part[now.argsort(stable=True)[: count - len(kept)]]
            kept += new.tolist()
        threshold += 0.1
    return sorted(kept)


class _Largest(TorchDispatchMode):
    """Remembers how many elements the largest result of any operation had."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def test_vlm_pruner_makes_no_square_of_all_tokens():
    total, count = 8192, 1400
    tokens = some(total)
    with _Largest() as largest:
        kept = VLMPruner().select(tokens, count)
        VLMPruner().merge(tokens, kept)
    assert len(kept) == count
    assert total * 12 <= largest.elements <= total * 1024
