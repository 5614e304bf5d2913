"""One mechanism for every family: exact on all of them."""

from __future__ import annotations

import pytest
import torch
from support.families import LENGTH, ByCell, more_types
from support.family_cases import masked

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.families.q_former import QFormer


@torch.no_grad()
def test_keep_all_is_bit_identical(case):
    model, inputs, for_beams = case
    dense = model(**inputs).logits
    with asymvlm.prune(model, ByCell(), keep=1.0) as report:
        assert torch.equal(model(**inputs).logits, dense)
    assert report.calls[0].before == report.calls[0].after
    sampling = {"do_sample": True, "num_return_sequences": 2}
    for prompt, arguments in ((inputs, {}), (for_beams, {"num_beams": 3}), (for_beams, sampling)):
        torch.manual_seed(0)
        expected = model.generate(**prompt, **LENGTH, **arguments)
        torch.manual_seed(0)
        with asymvlm.prune(model, ByCell(), keep=1.0):
            assert torch.equal(model.generate(**prompt, **LENGTH, **arguments), expected), arguments


@torch.no_grad()
def test_dropping_equals_masking(case):
    model, inputs, _ = case
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model(**inputs).logits
    call = report.calls[0]
    assert all(1 <= after < before for before, after in zip(call.before, call.after, strict=True))
    reference = masked(model, inputs, call.kept, generating=False)
    dense = model(**reference).logits
    for row in range(len(dense)):
        stays = reference["attention_mask"][row].bool()
        torch.testing.assert_close(pruned[row, stays], dense[row, stays], atol=1e-5, rtol=0)


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@torch.no_grad()
def test_generation_equals_masking(case, arguments):
    model, inputs = case[0], case[2 if arguments else 1]
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model.generate(**inputs, **LENGTH, **arguments)
    expected = model.generate(
        **masked(model, inputs, report.calls[0].kept, generating=True), **LENGTH, **arguments
    )
    assert torch.equal(pruned, expected)


def test_loss_and_gradients_equal_masking(case):
    """With labels, the gradient reaches the pixels through the kept features alone."""
    model, inputs, _ = case
    # Words alone: what follows a picture is predicted from its last vision token, which is another
    # one after pruning.
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] < 20, -100)

    def run(call):
        pixels = call["pixel_values"].clone().requires_grad_()
        loss = model(**{**call, "pixel_values": pixels, "labels": labels}).loss
        return loss.detach(), torch.autograd.grad(loss, pixels)[0]

    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        loss, gradient = run(inputs)
    expected_loss, expected = run(masked(model, inputs, report.calls[0].kept, generating=False))
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
    assert gradient.abs().sum() > 0


@torch.no_grad()
def test_static_cache(case):
    model, inputs, _ = case
    with asymvlm.prune(model, ByCell(), keep="auto"):
        dynamic = model.generate(**inputs, **LENGTH)
        static = model.generate(**inputs, **LENGTH, cache_implementation="static")
    assert torch.equal(dynamic, static)


@torch.no_grad()
def test_further_turn_on_the_kept_cache(case):
    """A second question on the cache of the first equals a dense model that goes on with the same
    columns masked.
    """
    model, inputs, _ = case
    if isinstance(backbone_of(model), QFormer):
        pytest.skip("its generate takes no cache")
    more = torch.tensor([[21, 33, 44], [52, 63, 74]])

    def second(first, mask, **positions):
        ids = torch.cat([first.sequences, more], 1)
        mask = torch.cat([mask, torch.ones(2, ids.shape[1] - mask.shape[1], dtype=torch.long)], 1)
        call = {
            "input_ids": ids,
            "attention_mask": mask,
            "past_key_values": first.past_key_values,
            **positions,
        }
        call |= more_types(model, inputs, ids.shape[1] - inputs["input_ids"].shape[1])
        return model.generate(**call, **LENGTH)

    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        first = model.generate(**inputs, **LENGTH, return_dict_in_generate=True)
        pruned = second(first, inputs["attention_mask"])
    reference = masked(model, inputs, report.calls[0].kept, generating=True)
    first = model.generate(**reference, **LENGTH, return_dict_in_generate=True)
    positions = reference["position_ids"]
    steps = torch.arange(1, first.sequences.shape[1] + more.shape[1] - positions.shape[-1] + 1)
    positions = torch.cat([positions, positions[..., -1:] + steps], -1)
    assert torch.equal(pruned, second(first, reference["attention_mask"], position_ids=positions))
