"""PruMerge and PruMerge+ by hand: who stays, what is fused, and where."""

from __future__ import annotations

import pytest
import torch
from support.tower_tokens import at_angles, make

from asymvlm.methods import prumerge_plain
from asymvlm.methods.prumerge import PruMergePlus
from asymvlm.methods.prumerge_plain import PruMerge

ATTENTION = [0.01, 0.02, 0.30, 0.04, 0.05, 0.06, 0.07, 0.08]  # quartiles 0.035 and 0.0725
# Nearest to each other are 0 and 1, 2 and 3, 4 and 6.
KEYS = at_angles(0, 10, 90, 95, 180, 200, 185, 270, lengths=[1, 1, 1, 100.0, 1, 1, 1, 1])
STATES = torch.arange(1.0, 9.0)[:, None]


def tokens_with(**given):
    """Eight tokens whose features are the states' squares, and attention of 2 as an outlier."""
    given = {"states": STATES, "keys_above": KEYS, "projector": torch.square, **given}
    return make(STATES.square(), single_head=ATTENTION, keys=KEYS.flip(0), **given)


def sparse(total, *places):
    """Attention that is 1 at some places, and far less and different elsewhere."""
    attention = torch.linspace(0.001, 0.002, total)
    attention[list(places)] = 1.0
    return make(torch.ones(total, 1), single_head=attention, keys=torch.ones(total, 1))


def test_prumerge_keeps_outliers_and_appends_the_rest(monkeypatch):
    """Above 0.0725 + 1.5 * 0.0375 = 0.12875 is token 2 alone."""
    monkeypatch.setattr(prumerge_plain, "_NEIGHBOURS", 1)
    tokens, method = tokens_with(), PruMerge()
    assert method.budget(tokens) == 2 / 8
    kept = method.select(tokens, 2)
    assert kept.tolist() == [2, 7], "the last of the others carries the rest"
    rest = 0.01 * 1 + 0.02 * 2 + 0.04 * 4 + 0.05 * 5 + 0.06 * 6 + 0.07 * 7 + 0.08 * 8
    assert method.merge(tokens, kept)[:, 0].tolist() == pytest.approx(
        [(3 + 0.04 * 4) ** 2, rest**2]
    )
    assert method.select(tokens, 3).tolist() == [2, 6, 7], "2 and 7 by attention"


def test_prumerge_plus_by_hand(monkeypatch):
    """One outlier of eight: floor(8 / 1) / 3 is 2, so 0, 2, 4 and 6, but not the last, 7."""
    monkeypatch.setattr(prumerge_plain, "_NEIGHBOURS", 1)
    tokens, method = tokens_with(), PruMergePlus()
    assert method.budget(tokens) == 5 / 8
    kept = method.select(tokens, 5)
    assert kept.tolist() == [0, 2, 4, 6, 7]
    expected = [
        1 + 0.02 * 2,
        3 + 0.04 * 4,
        5 + 0.07 * 7,
        7 + 0.05 * 5,
        0.02 * 2 + 0.04 * 4 + 0.06 * 6 + 0.08 * 8,
    ]
    assert method.merge(tokens, kept)[:, 0].tolist() == pytest.approx([x**2 for x in expected])


@pytest.mark.parametrize(
    "method, tokens",
    [
        (PruMergePlus(before_projector=False), tokens_with()),
        (PruMergePlus(), tokens_with(projector=None)),
    ],
)
def test_fused_behind_the_projector_where_asked_for_or_nothing_else_can_be(
    method, tokens, monkeypatch
):
    monkeypatch.setattr(prumerge_plain, "_NEIGHBOURS", 1)
    got = method.merge(tokens, torch.tensor([0, 2, 4, 6, 7]))[:, 0].tolist()
    assert got[:2] == pytest.approx([1**2 + 0.02 * 2**2, 3**2 + 0.04 * 4**2])
    assert ("behind" in method.deviations[1]) and PruMerge().deviations != method.deviations


def test_prumerge_plus_under_other_counts():
    """Three without the appended one: every third (0, 3, 6) and 2 are four, every fourth fits.

    Six: every second, and 7 and 5 by attention.
    """
    assert PruMergePlus().select(tokens_with(), 4).tolist() == [0, 2, 4, 7]
    assert PruMergePlus().select(tokens_with(), 7).tolist() == [0, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("on_grid", [0, 11, 45])
def test_prumerge_plus_keeps_the_authors_number(on_grid):
    """45 outliers of 576: floor(576 / 45) = 12, so every fourth of the first 575, 144 tokens.

    Outliers among these count once.
    """
    places = [4 * place for place in range(on_grid)]
    places += [4 * place + 1 for place in range(45 - on_grid)]
    tokens, method = sparse(576, *places), PruMergePlus()
    count = round(576 * method.budget(tokens))
    assert count == 45 + 144 - on_grid + 1
    kept = set(method.select(tokens, count).tolist())
    assert kept >= set(places) | set(range(0, 575, 4)) and len(kept) == count


def test_prumerge_plus_keeps_the_authors_tokens_where_others_would_fit_too():
    """One outlier of 12, so every fourth: 0, 4, 8 and 9. Every third and the top two, 9 and 6, are
    also four.
    """
    attention = torch.arange(1.0, 13.0)
    attention[[6, 9]] = torch.tensor([13.0, 100.0])
    tokens = make(torch.ones(12, 1), single_head=attention)
    assert PruMergePlus().budget(tokens) == 5 / 12
    assert PruMergePlus().select(tokens, 5).tolist() == [0, 4, 8, 9, 11]


def test_outliers_lie_one_and_a_half_quartile_distances_above():
    """Of these nine the quartiles are 2 and 6, so outliers lie above 6 + 1.5 * 4 = 12."""
    values = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 11.9, 12.1])
    assert prumerge_plain.outliers(values) == 1


def test_without_outliers_one_token_carries_all():
    tokens = make(torch.ones(8, 1), single_head=[0.1] * 8, keys=torch.ones(8, 1))
    for method in (PruMerge(), PruMergePlus()):
        assert method.budget(tokens) == 1 / 8
        assert method.merge(tokens, method.select(tokens, 1))[:, 0].tolist() == pytest.approx([0.8])


def test_thirty_two_neighbours_are_fused():
    keys = at_angles(*range(40))
    tokens = make(torch.ones(40, 1), single_head=[0.001] * 39 + [0.002], keys=keys)
    kept = PruMerge().select(tokens, 2)
    assert kept.tolist() == [38, 39], "the top one, and the last of the others for the rest"
    merged = PruMerge().merge(tokens, kept)
    assert merged[:, 0].tolist() == pytest.approx([39 * 0.001, 1 + 32 * 0.001])


def test_ends_of_lines_stay_as_they_are():
    """They have no state and no key."""
    keys, states = KEYS.clone(), STATES.clone()
    keys[0], states[0] = 0, 0
    tokens = tokens_with(keys_above=keys, states=states)
    merged = PruMergePlus().merge(tokens, torch.tensor([0, 2, 4, 6, 7]))
    assert merged[0] == tokens.vision[0] and (merged[1:] != tokens.vision[[2, 4, 6, 7]]).all()
