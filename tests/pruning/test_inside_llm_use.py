"""Pruning inside the LLM: fused tokens, further turns, labels, refusals."""

from __future__ import annotations

import pytest
import torch
from support import families
from support.inside_llm import OTHER_DECODERS, Inside, Late, blind

import asymvlm


def test_merging_replaces_the_states(llava, batch):
    class Swaps(Late):
        def merge(self, tokens, kept):
            return tokens.vision[kept].flip(0)

    with torch.no_grad():
        with asymvlm.prune(llava, Late(), keep=0.5):
            plain = llava(**batch, logits_to_keep=1).logits
        with asymvlm.prune(llava, Swaps(), keep=0.5):
            swapped = llava(**batch, logits_to_keep=1).logits
    assert (plain - swapped).abs().max() > 1e-3


def test_further_turn_on_the_cache(llava, batch):
    """What follows on the cache sees the kept columns alone.

    Other calls in between do not matter.
    """
    tail = torch.tensor([[9, 10, 11]] * 3)
    with torch.no_grad(), asymvlm.prune(llava, Late(), keep=0.3) as report:
        out = llava(**batch)
        llava(input_ids=tail)  # text alone, of no cache
        longer = torch.cat([batch["attention_mask"], torch.ones_like(tail)], dim=1)
        positions = (longer.cumsum(-1) - 1).clamp_min(0)[:, -3:]
        step = llava(
            input_ids=tail,
            attention_mask=longer,
            position_ids=positions,
            past_key_values=out.past_key_values,
        ).logits
    assert report.text_only == 1
    with torch.no_grad(), blind(llava, batch, {1: report.calls[0].kept}):
        out = llava(**batch)
        expected = llava(
            input_ids=tail,
            attention_mask=longer,
            position_ids=positions,
            past_key_values=out.past_key_values,
        ).logits
    torch.testing.assert_close(step, expected, atol=1e-5, rtol=0)


def test_labels_keep_their_columns(llava, batch):
    labels = batch["input_ids"].masked_fill(batch["input_ids"] < 4, -100)
    # Predicted from the last vision token, which may go.
    labels[:, 1:][batch["input_ids"][:, :-1] == llava.config.image_token_id] = -100
    with asymvlm.prune(llava, Late(), keep=0.3) as report:
        loss = llava(**batch, labels=labels).loss
    with blind(llava, batch, {1: report.calls[0].kept}):
        expected = llava(**batch, labels=labels).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(OTHER_DECODERS))
def test_other_decoders_are_refused(name):
    family = next(one for one in families.IN_SEQUENCE if one.name == name)
    model = family.build()
    with (
        pytest.raises(ValueError, match="Inside acts inside"),
        asymvlm.prune(model, Inside(), keep=0.5),
    ):
        pass


def test_bad_use_is_refused(llava, batch):
    class TooDeep(Late):
        layer = 7

    with (
        pytest.raises(
            ValueError, match=r"TooDeep acts before layers \[7\]; this LLM has layers 1 to 1"
        ),
        asymvlm.prune(llava, TooDeep()),
    ):
        llava(**batch)
    with (
        pytest.raises(ValueError, match="'auto' is for methods before the LLM"),
        asymvlm.prune(llava, Late(), keep="auto"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="cache_implementation: 'static'"),
        asymvlm.prune(llava, Late()),
    ):
        llava.generate(**batch, cache_implementation="static")
    with pytest.raises(ValueError, match="use_cache"), asymvlm.prune(llava, Late()):
        llava.generate(**batch, use_cache=False)
    with torch.no_grad(), asymvlm.prune(llava, Late()):
        out = llava(**batch)
        with pytest.raises(ValueError, match="pictures cannot follow"):
            llava(**batch, past_key_values=out.past_key_values)
    assert "generate" not in vars(llava), "everything is put back"
