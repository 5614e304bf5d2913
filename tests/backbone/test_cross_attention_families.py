"""Families whose vision tokens are not in the sequence.

The same properties as in tests/test_families.py.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager

import pytest
import torch
from support import families
from support.families import LENGTH, ByCell

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.targets import AttentionTarget, EncodedBatch


@pytest.fixture(params=families.CROSS_ATTENTION, ids=str, scope="module")
def case(request):
    """(model, its batch of two: one picture and two pictures, of different lengths)."""
    return request.param.build(), families.cross_batch(request.param)


@contextmanager
def masked(model, inputs, kept, generating):
    """Hide dropped tokens from every row while open; yields the arguments of the call."""
    backbone = backbone_of(model)
    slots = [mine[index] for mine, index in zip(backbone.slots(inputs), kept, strict=True)]
    if backbone.mask_argument == "cross_attention_mask":
        hook = functools.partial(hide_columns, slots)
        handle = model.model.language_model.register_forward_pre_hook(hook, with_kwargs=True)
        yield inputs
        handle.remove()
        return
    states = backbone.encode(inputs).output
    mask = inputs["image_attention_mask"].repeat_interleave(states.shape[2], dim=2)
    for row, index in enumerate(slots):
        hidden = torch.ones(mask.shape[2], dtype=torch.bool)
        hidden[index] = False
        mask[row, :, hidden] = 0
    rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
    name = "image_hidden_states" if generating else backbone.states_argument
    yield {**rest, "image_attention_mask": mask, name: states.flatten(1, 2)[:, :, None]}


def hide_columns(slots, module, args, kwargs):
    mask = kwargs["cross_attention_mask"].clone()
    for row, index in enumerate(slots):
        hidden = torch.ones(mask.shape[-1], dtype=torch.bool)
        hidden[index] = False
        times = len(mask) // len(slots)
        mask[row * times : (row + 1) * times, :, :, hidden] = torch.finfo(mask.dtype).min
    return args, {**kwargs, "cross_attention_mask": mask}


@torch.no_grad()
def test_keep_all_is_bit_identical(case):
    model, inputs = case
    dense = model(**inputs).logits
    with asymvlm.prune(model, ByCell(), keep=1.0) as report:
        assert torch.equal(model(**inputs).logits, dense)
    assert (
        report.calls[0].before == report.calls[0].after
        and report.calls[0].before[1] > report.calls[0].before[0]
    )
    for arguments in ({}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}):
        torch.manual_seed(0)
        expected = model.generate(**inputs, **LENGTH, **arguments)
        torch.manual_seed(0)
        with asymvlm.prune(model, ByCell(), keep=1.0):
            assert torch.equal(model.generate(**inputs, **LENGTH, **arguments), expected), arguments


@torch.no_grad()
def test_dropping_equals_masking(case):
    model, inputs = case
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model(**inputs).logits
    call = report.calls[0]
    assert all(1 <= after < before for before, after in zip(call.before, call.after, strict=True))
    with masked(model, inputs, call.kept, generating=False) as reference:
        dense = model(**reference).logits
    torch.testing.assert_close(pruned, dense, atol=1e-5, rtol=0)
    assert not torch.allclose(pruned, model(**inputs).logits, atol=1e-3), "the pictures must matter"


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@torch.no_grad()
def test_generation_equals_masking(case, arguments):
    model, inputs = case
    with asymvlm.prune(model, ByCell(), keep="auto") as report:
        pruned = model.generate(**inputs, **LENGTH, **arguments)
    with masked(model, inputs, report.calls[0].kept, generating=True) as reference:
        expected = model.generate(**reference, **LENGTH, **arguments)
    assert torch.equal(pruned, expected)


@pytest.mark.parametrize("rows", ["last", "answer"])
@torch.no_grad()
def test_targets_equal_eager_attention(case, rows):
    model, inputs = case
    backbone = backbone_of(model)
    encoded = backbone.encode(inputs)
    layout = backbone.layout(inputs, encoded)
    answers = torch.tensor([[31, 41, 2], [59, 26, 2]])
    target = AttentionTarget(rows=rows)(
        backbone, EncodedBatch(inputs, encoded, layout, layout.text, list(answers))
    )

    call, forced = dict(inputs), 0
    if rows == "answer":
        forced = 2
        call["input_ids"] = torch.cat([call["input_ids"], answers[:, :-1]], 1)
        call["attention_mask"] = torch.cat([call["attention_mask"], torch.ones(2, 2).long()], 1)
        mask = call[backbone.mask_argument]
        call[backbone.mask_argument] = torch.cat(
            [mask, mask[:, -1:].expand(-1, 2, *mask.shape[2:])], 1
        )
    seen = []
    handles = [
        module.register_forward_hook(lambda module, args, out: seen.append(out[1]))
        for module in backbone.vision_layers
    ]
    model.set_attn_implementation("eager")
    try:
        model(**call)
    finally:
        model.set_attn_implementation("sdpa")
        for handle in handles:
            handle.remove()
    mean = torch.stack(seen).mean((0, 2))
    for row, mine in enumerate(backbone.slots(inputs)):
        mass = mean[row, -1 - forced :].mean(0)[mine]
        torch.testing.assert_close(target[row], mass / mass.sum(), atol=1e-5, rtol=0)
