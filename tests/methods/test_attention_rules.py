"""Published rules on the attention of the tower, by hand on a few tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from support.tower_tokens import at_angles, make

from asymvlm.methods import holov, vis_pruner
from asymvlm.methods.holov import HoloV
from asymvlm.methods.non_blank import NonBlank
from asymvlm.methods.vis_pruner import VisPruner
from asymvlm.methods.vision_zip import VisionZip


def test_vision_zip_by_hand():
    tokens = make(
        vision=[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [8.0]],
        attention=[0.1, 0.9, 0.1, 0.1, 0.2, 0.1, 0.8, 0.1],
        heads=2,  # two numbers each
        keys=[
            [5, 0, -3, 0],  # mean (1, 0)
            [9, 9, 9, 9],
            [
                0,
                0,
                2,
                1,
            ],  # mean (1, 0.5), to token 0; with the heads side by side it would go to token 4
            [0, 1, 0, 1],  # mean (0, 1), to token 4
            [0, 1, 0, 1],
            [0, 2, 1, 2],  # mean (0.5, 2), to token 4
            [9, 9, 9, 9],
            [20, 10, 20, 10],  # mean (20, 10), to token 0
        ],
    )
    method = VisionZip(contextual=0.5)
    kept = method.select(tokens, 4)
    # Dominant: 1 and 6. Of the others 0 2 3 4 5 7, every third one is a target: 0 and 4.
    assert kept.tolist() == [0, 1, 4, 6]
    assert method.merge(tokens, kept)[:, 0].tolist() == [1 + (3 + 8) / 2, 2, 5 + (4 + 6) / 2, 7]
    # In front of a projector that squares.
    tower = tokens.tower()
    tokens.tower = lambda: replace(tower, states=tokens.vision + 1)
    tokens.projector = lambda: torch.square
    assert method.merge(tokens, kept)[:, 0].tolist() == [
        (2 + (4 + 9) / 2) ** 2, 3**2, (6 + (5 + 7) / 2) ** 2, 8**2
    ]  # fmt: skip
    behind = VisionZip(contextual=0.5, before_projector=False)
    assert behind.merge(tokens, kept)[:, 0].tolist() == [1 + (3 + 8) / 2, 2, 5 + (4 + 6) / 2, 7]


def test_ends_of_lines_are_no_part_of_means():
    """A token without key and state stays as it is, joins no target, and none joins it."""
    states = [[3.0], [9.0], [0.0], [5.0], [0.0], [7.0]]
    tokens = make(
        [[1.0], [2.0], [50.0], [4.0], [60.0], [6.0]],
        attention=[0.1, 0.9, 0.0, 0.1, 0.0, 0.1],
        keys=[[1.0, 0], [0, 1.0], [0, 0], [-1.0, 0.1], [0, 0], [1.0, 0.1]],
        states=states,
        projector=torch.square,
    )
    method = VisionZip(contextual=2 / 3)
    kept = method.select(tokens, 3)
    assert kept.tolist() == [0, 1, 3], "targets are 0 and 3 of 0 2 3 4 5"
    assert method.merge(tokens, kept)[:, 0].tolist() == [10.0**2, 9.0**2, 5.0**2]
    kept = torch.tensor([1, 2, 3])  # as if it were one
    assert method.merge(tokens, kept)[:, 0].tolist() == [9.0**2, 50.0, 10.0**2]
    kept = torch.tensor([1, 2, 4])  # none but ends of lines
    assert method.merge(tokens, kept)[:, 0].tolist() == [9.0**2, 50.0, 60.0]


def test_vision_zip_shares_as_published():
    tokens = make(torch.ones(576, 1), attention=torch.arange(576) / 576)
    for count, dominant in ((64, 54), (128, 108), (192, 162), (6, 5)):
        assert len(VisionZip()._dominant(tokens, count)) == dominant


def test_vis_pruner_by_hand(monkeypatch):
    monkeypatch.setattr(vis_pruner, "_AT_A_TIME", 1)
    attention = [0.5, 0.4, 0.3, 0.9, 0.2, 0.8, 0.1]
    tokens = make(
        torch.ones(7, 1), attention=attention, states=at_angles(0, 30, 100, 0, 110, 0, 200)
    )
    # Important: 3 and 5. The rest is 0 1 2 4 6. Even places 0 2 6 are 30, 10 and 90 degrees from
    # the nearest odd one: 2 goes, and what is left is 0 6 | 1 4. Even places 0 1 are 110 and 80
    # degrees from the nearest: 1 goes, 0 | 6 4 is left. Then 0 and 4 are 160 and 90 from 6: 4 goes.
    assert VisPruner().select(tokens, 4).tolist() == [0, 3, 5, 6]


def test_vis_pruner_removes_eight_at_a_time():
    pairs = torch.eye(8).repeat_interleave(2, 0)
    tokens = make(torch.ones(16, 1), attention=torch.arange(16, 0, -1), states=pairs)
    assert VisPruner(important=0).select(tokens, 8).tolist() == list(range(1, 16, 2)), (
        "every even place in one round"
    )


def test_holov_by_hand(monkeypatch):
    """Mean attention 0.175 and 0.075: shares 0.7 and 0.3, of four 2.8 and 1.2, whatever beta is.

    Both groups have variance, and each is scaled to its own attention.
    """
    monkeypatch.setattr(holov, "_GROUPS", 2)
    vision = [[1.0, 0]] * 6 + [[0, 1]] * 2
    tokens = make(vision, attention=[0.1, 0.2, 0.3, 0.1, 0.05, 0.05, 0.1, 0.1])
    for beta in (0, 0.09, 1, 10):
        assert HoloV(beta).select(tokens, 4).tolist() == [0, 1, 2, 6]
        assert HoloV(beta).select(tokens, 5).tolist() == [0, 1, 2, 3, 6], "of five 3.5 and 1.5"


def test_holov_counts_a_tokens_own_cosine_as_nought(monkeypatch):
    """Without likeness there is no variance; with nothing else there is 1 / 3, for the own 0.

    So with beta 1 and equal attention the second group has 2 / 3 of six.
    """
    monkeypatch.setattr(holov, "_GROUPS", 2)
    tokens = make(torch.eye(4)[[0, 1, 2, 3, 0, 0, 0, 0]], attention=[0.1] * 8)
    assert HoloV(beta=1).select(tokens, 6).tolist() == [0, 1, 4, 5, 6, 7]
    assert len(HoloV(corrected=True).deviations) == len(HoloV().deviations) + 1


def test_holov_corrected_by_hand(monkeypatch):
    monkeypatch.setattr(holov, "_GROUPS", 2)
    vision = [[1.0, 0]] * 6 + [[0, 1]] * 2
    attention = [0.1, 0.2, 0.3, 0.1, 0.05, 0.05, 0.1, 0.1]
    tokens = make(vision, attention=attention)
    # Mean attention 0.175 and 0.075, of all 0.125. Each token of the second group has cosines 1, 0,
    # 0: variance 2/9, of all 1/9. So the groups score 0.175 and 0.075 + beta * 0.125 / (1/9) * 2/9
    # = 0.075 + beta / 4. beta 0.09: shares 0.64 and 0.36; of four 2.6 and 1.4, the one left over to
    # the first group.
    assert HoloV(corrected=True).select(tokens, 4).tolist() == [0, 1, 2, 6]
    # beta 1: shares 0.35 and 0.65; of four 1.4 and 2.6, the one left over to the second group.
    assert HoloV(beta=1, corrected=True).select(tokens, 4).tolist() == [2, 4, 6, 7]
    # Attention a hundred times smaller changes nothing.
    assert HoloV(corrected=True).select(
        make(vision, attention=torch.tensor(attention) / 100), 4
    ).tolist() == [
        0,
        1,
        2,
        6,
    ]
    # beta 0: shares 0.7 and 0.3; of seven 4.9 and 2.1, and the first group has but four.
    assert HoloV(beta=0, corrected=True).select(tokens, 7).tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_holov_leaves_a_tokens_own_cosine_out(monkeypatch):
    monkeypatch.setattr(holov, "_GROUPS", 2)
    # All cosines with others 1, all 0: no variance, shares 0.7 and 0.3.
    vision = torch.eye(4)[[0, 0, 0, 0, 0, 1, 2, 3]]
    tokens = make(vision, attention=[0.1, 0.2, 0.3, 0.1, 0.05, 0.05, 0.1, 0.1])
    assert HoloV(beta=1, corrected=True).select(tokens, 4).tolist() == [0, 1, 2, 6]


def test_holov_has_sixteen_groups():
    tokens = make(torch.ones(32, 1), attention=[0.1, 0.1] + [0.01] * 30)
    # Of six, 0.1 / 0.25 * 6 = 2.4 for the first group, which is full with two, and 0.24 for each
    # other: one each for the next four.
    assert HoloV().select(tokens, 6).tolist() == [0, 1, 2, 4, 6, 8]


def test_non_blank_by_hand():
    ink = torch.zeros(16)
    ink[5], ink[6] = 0.3, 0.2
    tokens = make(torch.ones(16, 1), ink=ink)
    assert NonBlank().select(tokens, 1).tolist() == [5]
    # Blank cells along the Z order: 0 1 4 2 3 7 8 9 12 13 10 11 14 15; two evenly: 2 and 10.
    assert NonBlank().select(tokens, 4).tolist() == [2, 5, 6, 10]
