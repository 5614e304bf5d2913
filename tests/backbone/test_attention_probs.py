"""Attention probabilities of chosen rows, by hand and against SDPA."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from asymvlm.backbone.attention_probs import attention_probs, causal_rows


def test_grouped_queries_by_hand():
    """Two heads that share one key group; the second row of three sees the first two keys."""
    query = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [5.0, 5.0]]])
    seen = causal_rows(torch.tensor([1]), 3)[None, None]
    got = attention_probs(query[None], key[None], seen, 1.0)[0]
    half = torch.tensor(0.5)
    seen = torch.tensor([1.0, 0.0]).softmax(0)
    torch.testing.assert_close(got[0, 0], torch.stack([seen[0], seen[1], torch.tensor(0.0)]))
    torch.testing.assert_close(got[1, 0], torch.stack([half, half, torch.tensor(0.0)]))


@pytest.mark.parametrize("kind", ["none", "bool", "bias", "causal"])
def test_equals_sdpa(kind):
    """Weights times values are what SDPA returns, in fp64, for every form of mask."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 5, 8).double() for heads in (4, 2, 2))
    mask = {
        "none": None,
        "bool": torch.rand(2, 1, 5, 5) > 0.4,
        "bias": torch.randn(2, 1, 5, 5),
        "causal": causal_rows(torch.arange(5), 5)[None, None],
    }[kind]
    if kind == "bool":
        mask[..., 0] = True
    repeated = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    given = mask.double() if kind == "bias" else mask
    expected = scaled_dot_product_attention(query, *repeated, attn_mask=given)
    probs = attention_probs(query, key, mask, None)
    torch.testing.assert_close(probs.double() @ repeated[1], expected, atol=1e-6, rtol=1e-5)


def test_a_row_that_sees_nothing_has_zeros():
    mask = torch.tensor([[True, False], [False, False]])[None, None]
    probs = attention_probs(torch.randn(1, 1, 2, 4), torch.randn(1, 1, 2, 4), mask, None)
    assert probs[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
