"""What a projector makes of changed states, and what the layer that reads them computes."""

from __future__ import annotations

import pytest
import torch
from support import families

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.backbone.family_spec import family_spec
from asymvlm.backbone.tower.projector import projector_of
from asymvlm.backbone.tower.watch import feature_layer, tower_of
from asymvlm.methods.prumerge_plain import PruMerge
from asymvlm.methods.vision_zip import VisionZip

ONE_BY_ONE = {"Llava", "PixtralLlava", "LlavaNext", "LlavaOnevision"}


@torch.no_grad()
def test_projectors_that_read_one_state_a_token(case, request):
    model, inputs, _ = case
    try:
        encoded = backbone_of(model).encode(inputs, watch_tower=True)
    except ValueError:
        pytest.skip("refused: see test_tower")
    view, rows = encoded.tower, encoded.rows
    project = projector_of(model, view.states, rows)
    if request.node.callspec.id not in ONE_BY_ONE:
        assert project is None
        return
    patches = view.states.any(-1)
    assert bool(patches.all()) or family_spec(model.config).patch_merge == "packed"
    torch.testing.assert_close(project(view.states)[patches], rows[patches])
    assert projector_of(model, 1.2 * view.states, rows) is None, "not what it made"
    some = rows.clone()
    some[patches.nonzero()[0, 0]] *= 1.2
    assert projector_of(model, view.states, some) is None, "nor of one of them"


def llava():
    row = next(one for one in families.IN_SEQUENCE if one.name == "Llava")
    model = row.build()
    return model, families.batch(model, row)


@torch.no_grad()
def test_one_head_and_its_keys_are_of_the_layer_that_reads_the_features():
    model, inputs = llava()
    tower, seen = tower_of(model), {}
    layers = [part for part in tower.modules() if type(part).__name__ == "CLIPEncoderLayer"]
    assert feature_layer(model)[0] is layers[-2], "LLaVA takes the last layer but one"
    handles = [
        getattr(layers[-1].self_attn, name).register_forward_hook(
            lambda module, given, out, name=name: seen.setdefault(name, out)
        )
        for name in ("q_proj", "k_proj")
    ]
    view = backbone_of(model).encode(inputs, watch_tower=True).tower
    for handle in handles:
        handle.remove()
    query, key = seen["q_proj"], seen["k_proj"]
    cls = (query @ key.mT / key.shape[-1] ** 0.5).softmax(-1)[:, 0, 1:]
    torch.testing.assert_close(view.single_head(), cls.flatten())
    torch.testing.assert_close(view.single_head_keys(), key[:, 1:].flatten(0, 1))
    part = view.of(slice(3, 7))
    assert torch.equal(part.single_head_keys(), view.single_head_keys()[3:7])
    assert not torch.allclose(view.keys, view.single_head_keys())


@pytest.mark.parametrize("kind", [PruMerge, VisionZip])
@torch.no_grad()
def test_the_llm_reads_what_the_projector_makes_of_fused_states(kind):
    model, inputs = llava()
    fused = []

    class Looks(kind):
        def merge(self, tokens, kept):
            projector = tokens.projector()
            tokens.projector = lambda: lambda rows: fused.append(rows) or projector(rows)
            return super().merge(tokens, kept)

    read = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with asymvlm.prune(model, Looks(), keep=7):
        model(**inputs)
    handle.remove()
    projected = model.model.multi_modal_projector(torch.stack(fused)).flatten(0, 1)
    assert len(projected) == 7 * len(inputs["input_ids"])
    assert farthest(projected, read[0].flatten(0, 1)) < 1e-5
    assert farthest(projected, backbone_of(model).encode(inputs).rows) > 1e-3, "not as they were"


def farthest(rows, others):
    """The largest distance of a row to the nearest of `others`."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(rows, others, compute_mode=exact).amin(1).max()
