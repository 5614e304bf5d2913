"""Gates: they sum to the count, gradients are right, and hard ones are what pruning does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asymvlm.gates import SoftTopK, StraightThrough, at_least_one, hard_choice, threshold
from asymvlm.selectors import top_k


@given(
    st.integers(0, 10_000),
    st.integers(2, 60),
    st.floats(0.05, 1.0),
    st.floats(0.05, 4.0),
    st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_soft_gates_sum_to_the_count_and_keep_the_order(seed, length, share, temperature, progress):
    generator = torch.Generator().manual_seed(seed)
    scores = 6 * torch.randn(3, length, generator=generator)
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)], [1]])
    counts = (share * mask.sum(-1)).clamp_min(0.5)
    gates = SoftTopK(temperature, temperature / 2)(scores, mask, counts, progress).exp()
    assert gates[~mask].eq(0).all()
    torch.testing.assert_close(gates.sum(-1), counts, atol=2e-3, rtol=1e-4)
    for row, own, mine in zip(gates, scores, mask, strict=True):
        ordered = row[mine][own[mine].argsort()]
        assert bool((ordered.diff() >= 0).all())


def test_threshold_against_finite_differences():
    torch.manual_seed(0)
    scores = torch.randn(3, 7, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] * 7])
    counts = torch.tensor([2.0, 1.5, 6.0], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s, k: threshold(s * mask, mask, k), (scores, counts), eps=1e-6, atol=1e-6
    )


def test_gradient_of_the_gates_is_the_published_formula():
    """ds = g v - (<g, v> / sum v) v with v = m (1 - m); and dk = <g, v> / sum v."""
    torch.manual_seed(1)
    scores, mask = torch.randn(2, 9, requires_grad=True), torch.ones(2, 9, dtype=torch.bool)
    counts, incoming = torch.tensor([3.0, 5.0], requires_grad=True), torch.randn(2, 9)
    gates = SoftTopK()(scores, mask, counts, 0.0).exp()
    gates.backward(incoming)
    v = (gates * (1 - gates)).detach()
    shared = (incoming * v).sum(-1, keepdim=True) / v.sum(-1, keepdim=True)
    torch.testing.assert_close(scores.grad, incoming * v - shared * v, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(counts.grad, shared[:, 0], atol=1e-5, rtol=1e-4)


def test_a_falling_temperature_hardens():
    scores = torch.randn(1, 30)
    mask = torch.ones(1, 30, dtype=torch.bool)
    counts = torch.tensor([8.0])
    gate = SoftTopK(1.0, 0.01)
    between = [
        (gates * (1 - gates)).sum().item()
        for p in (0.0, 0.5, 1.0)
        for gates in [gate(scores, mask, counts, p).exp()]
    ]
    assert between[0] > between[1] > between[2]
    assert between[2] < 0.5


def test_a_head_that_asks_for_less_than_a_token_still_learns():
    counts = torch.tensor([0.2, 1.0, 3.5], requires_grad=True)
    raised = at_least_one(counts)
    assert raised.tolist() == [1.0, 1.0, 3.5]
    raised.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert counts.grad.tolist() == [1.0, 2.0, 3.0]


def test_what_straight_through_shuts_out_is_missed():
    """Attention to a value of 1 behind a shut gate and 0 behind an open one.

    The gradient says by how much opening it would help.
    """
    scores = torch.tensor([[1.0, 0.0]], requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    logs = StraightThrough()(scores, mask, torch.tensor([1.0]), 0.0)
    looked = torch.softmax(logs, -1) @ torch.tensor([0.0, 1.0])
    gate = torch.autograd.grad(looked.sum(), scores, retain_graph=True)[0]
    # Of both gates, whose sum is 1.
    slope = torch.sigmoid(torch.tensor(0.5)) * torch.sigmoid(torch.tensor(-0.5))
    torch.testing.assert_close(gate, torch.stack([-slope / 2, slope / 2])[None])
    assert looked.item() < 1e-12


def test_straight_through_is_hard_forward_and_soft_backward():
    torch.manual_seed(2)
    mask = torch.arange(12) < torch.tensor([[12], [6]])
    counts, incoming = torch.tensor([3.5, 2.0]), torch.randn(2, 12)
    grads = []
    for gate in (SoftTopK(), StraightThrough()):
        scores = torch.linspace(-2, 2, 24).reshape(2, 12).sin().requires_grad_()
        logs = gate(scores, mask, counts, 0.0)
        torch.where(mask, logs.exp() * incoming, 0.0).sum().backward()
        grads.append(scores.grad)
    torch.testing.assert_close(grads[0], grads[1])
    opened = logs.exp() > 0.5
    assert opened.sum(-1).tolist() == [4, 2]
    for row, own, mine, count in zip(opened, scores, mask, (4, 2), strict=True):
        assert row[mine].nonzero().squeeze(-1).tolist() == top_k(own[mine], count).tolist()
    assert logs[mask & ~opened].max() < -29


def test_of_equal_scores_the_earlier_ones_are_chosen():
    chosen = hard_choice(torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool), torch.tensor([2.0]))
    assert chosen.tolist() == [[True, True, False, False, False, False]]


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"last_temperature: 1\.0, 0\.0 must be above 0"):
        SoftTopK(1.0, 0.0)
