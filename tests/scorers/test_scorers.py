"""Properties that every scorer has, crossed with all scorers."""

from __future__ import annotations

import pytest
import torch

from asymvlm.scorers import BudgetHead, TokenBatch, scorers
from asymvlm.scorers.context import GridContext

WIDTH = 32
ALL = sorted(scorers().items())


def places(rows, columns, picture=0):
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.full_like(row, picture), row, column], -1).reshape(-1, 3)


def sample(seed, grid, words):
    generator = torch.Generator().manual_seed(seed)
    vision, text = (torch.randn(n, WIDTH, generator=generator) for n in (len(grid), words))
    return TokenBatch.single(vision, text, grid)


def padded(one, tokens, words):
    """The same sample with padding full of noise on both sides."""
    n, length = one.vision.shape[1], one.text.shape[1]
    noise = lambda *shape: 50 * torch.randn(*shape)  # noqa: E731
    return TokenBatch(
        torch.cat([one.vision, noise(1, tokens, WIDTH)], 1),
        torch.arange(n + tokens)[None] < n,
        torch.cat([one.text, noise(1, words, WIDTH)], 1),
        torch.arange(length + words)[None] < length,
        torch.cat([one.grid, torch.zeros(1, tokens, 3, dtype=torch.long)], 1),
    )


@pytest.fixture(params=ALL, ids=[name for name, _ in ALL])
def scorer(request):
    torch.manual_seed(1)
    made = request.param[1](WIDTH)
    for parameter in made.parameters():  # fresh scorers are near zero in places
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_padding_changes_nothing(scorer):
    one = sample(0, places(3, 4), 5)
    wide = scorer(padded(one, 6, 3))[:, :12]
    torch.testing.assert_close(wide, scorer(one), atol=1e-5, rtol=1e-5)
    head = BudgetHead(WIDTH)
    pad = padded(one, 6, 3)
    torch.testing.assert_close(head(pad, scorer(pad)), head(one, scorer(one)), atol=1e-5, rtol=1e-5)


def test_no_text_gives_finite_scores_and_gradients(scorer):
    one = sample(0, places(2, 3), 4)
    one.text_mask[:] = False
    scores = scorer(one)
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert all(torch.isfinite(p.grad).all() for p in scorer.parameters() if p.grad is not None)
    assert torch.isfinite(BudgetHead(WIDTH)(one, scores)).all()


def test_text_matters_unless_it_must_not(scorer):
    one, other = sample(0, places(3, 3), 4), sample(0, places(3, 3), 4)
    other.text = other.text.flip(-1)
    same = torch.allclose(scorer(one), scorer(other))
    assert same == (scorer.kind in ("text_free", "vision_selector"))


@pytest.mark.parametrize("name,cls", [one for one in ALL if one[0] != "vision_selector"])
def test_under_a_million_parameters_at_width_4096(name, cls):
    assert sum(p.numel() for p in cls(4096).parameters()) < 1_000_000


def test_vision_selector_is_the_mean_of_all_pairs():
    """Its published form, with the N x N matrix; and its published size on Qwen2.5-VL-7B."""
    scorer, one = scorers()["vision_selector"](WIDTH), sample(3, places(2, 3), 3)
    torch.nn.init.eye_(scorer.query.weight)
    torch.nn.init.normal_(scorer.key.weight)
    q, k = one.vision[0] @ scorer.query.weight.T, one.vision[0] @ scorer.key.weight.T
    torch.testing.assert_close(scorer(one)[0], (q @ k.T).mean(1) / (WIDTH // 2) ** 0.5)
    assert sum(p.numel() for p in scorers()["vision_selector"](3584).parameters()) == pytest.approx(
        12.85e6, rel=1e-3
    )


def test_diagonal_with_equal_weights_is_scaled_cosine():
    one = sample(3, places(2, 2), 3)
    cosine = torch.nn.functional.cosine_similarity(
        one.vision[0, :, None], one.text[0, None], dim=-1
    )
    made = scorers()["diagonal"](WIDTH, scale=2.0)
    torch.testing.assert_close(made(one)[0], 2 * cosine.max(-1).values)
    assert sum(p.numel() for p in made.parameters()) == WIDTH


def test_context_looks_at_neighbours_of_the_same_picture_only():
    torch.manual_seed(0)
    context = GridContext(2)
    torch.nn.init.normal_(context.filter.weight)
    torch.nn.init.normal_(context.place.weight)
    grid = torch.cat([places(3, 3), places(2, 5, picture=1), torch.tensor([[1, -1, -1]])])[None]
    mask = torch.ones(1, 20, dtype=torch.bool)
    tokens = torch.randn(1, 20, 2)
    before = context(tokens, grid, mask)
    moved = tokens.clone()
    moved[0, 0] += 1  # upper left of the first picture
    changed = (context(moved, grid, mask) - before).abs().sum(-1)[0] > 1e-7
    assert changed.nonzero().squeeze(-1).tolist() == [0, 1, 3, 4]
    torch.testing.assert_close(before[0, 19], tokens[0, 19])


def test_place_is_relative_to_the_picture():
    context = GridContext(2)
    torch.nn.init.zeros_(context.filter.weight)
    torch.nn.init.normal_(context.place.weight)
    small, large = (
        context(
            torch.zeros(1, n * n, 2), places(n, n)[None], torch.ones(1, n * n, dtype=torch.bool)
        )
        for n in (2, 6)
    )
    # Both a quarter down and across.
    torch.testing.assert_close(small[0].reshape(2, 2, 2)[0, 0], large[0].reshape(6, 6, 2)[1, 1])
    both = torch.cat([places(2, 2), places(6, 6, picture=1)])[None]  # and does not mix pictures up
    torch.testing.assert_close(
        context(torch.zeros(1, 40, 2), both, torch.ones(1, 40, dtype=torch.bool))[0, :4], small[0]
    )


def test_budget_head_is_a_share():
    one = sample(0, places(4, 4), 3)
    keep = BudgetHead(WIDTH)(one, torch.randn(1, 16) * 100)
    assert 0 < keep.item() <= 1
