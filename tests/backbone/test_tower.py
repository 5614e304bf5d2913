"""What is recorded of the vision tower lies on the right tokens."""

from __future__ import annotations

import pytest
import torch

from asymvlm.backbone import backbone_of
from asymvlm.backbone.family_spec import family_spec
from asymvlm.backbone.tower.patch_merging import Patches, on_tokens
from asymvlm.backbone.tower.watch import feature_layer, watching

REFUSED = {  # several feature layers, resamplers, mergers of other kinds
    "VipLlava", "Idefics2", "Mistral3", "Molmo2",
}  # fmt: skip


def test_tower_attention_lies_on_the_tokens_that_its_patches_become(case, request):
    """The patches that a token is a mean of are those that its features depend on through projector
    and merger.
    """
    model, inputs, _ = case
    backbone = backbone_of(model)
    name = request.node.callspec.id
    if name in REFUSED:
        with pytest.raises(ValueError, match=r"cannot be watched|not about the LLM's tokens"):
            backbone.encode(inputs, watch_tower=True)
        return
    attended = []  # what the watched layer gives: above it, patches meet nowhere but in the merger
    _, attention = feature_layer(model)
    handle = attention.register_forward_hook(
        lambda module, args, out: attended.append(out[0] if isinstance(out, tuple) else out)
    )
    model.requires_grad_(True)
    with watching(model) as watcher:
        encoded = backbone.encode(inputs)
    handle.remove()
    count, merges = len(encoded.rows), family_spec(model.config).patch_merge
    view = watcher.view(merges, count, inputs)
    assert view.attention.shape == view.single_head().shape == (count,)
    assert len(view.keys) == len(view.states) == count
    pictures = [one.squeeze(-1) for one in watcher.received()]
    sizes = [one.numel() for one in pictures]
    numbers = torch.arange(sum(sizes), dtype=torch.float).split(sizes)
    numbered = [
        number.view_as(one)[..., None] for number, one in zip(numbers, pictures, strict=True)
    ]
    if merges == "resampled":  # every token reads every patch
        weights = watcher.resampler.weights(pictures[0].shape[1])
        torch.testing.assert_close(
            view.attention.sum(), (weights @ torch.cat(pictures)[..., None]).sum()
        )
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
        return
    places = on_tokens(
        Patches(numbered, getattr(model.base_model, "visual", None), inputs, watcher.pack),
        merges,
        count,
    )[:, 0]
    for token in (0, count // 2, count - 1):
        gradients = torch.autograd.grad(
            encoded.rows[token].square().sum(), attended, retain_graph=True
        )
        felt = [
            gradient.abs().sum(-1)[:, 1:] if watcher.cls == "left out" else gradient.abs().sum(-1)
            for gradient in gradients
        ]
        read = torch.cat([one.flatten() for one in felt]).nonzero().squeeze(-1).float()
        if merges == "packed" and len(read) == 0:
            assert view.attention[token] == 0, "the end of a line is no patch"
            continue
        torch.testing.assert_close(
            places[token], read.mean(), msg=f"{name}: token {token} reads {read}"
        )
        assert view.attention[token] > 0


@torch.no_grad()
def test_tower_states_are_what_the_projector_reads(llava, batch):
    """For LLaVA, where patches are tokens, the view's states give the features, and CLS's keys are
    left out.
    """
    backbone = backbone_of(llava)
    encoded = backbone.encode(batch, watch_tower=True)
    view = encoded.tower
    torch.testing.assert_close(llava.model.multi_modal_projector(view.states), encoded.rows)
    assert view.keys.shape == (3 * 256, llava.config.vision_config.hidden_size)
    part = view.of(slice(256, 512))
    assert torch.equal(part.single_head(), view.single_head()[256:512])
