"""Methods inside the LLM, and dense references of them."""

from __future__ import annotations

import pytest
import torch

import asymvlm
from asymvlm.backbone import backbone_of

from . import families
from .families import LENGTH
from .layer_hooks import before_layers

# Their LLMs have sliding windows, or none of the rotary tables of Llama.
OTHER_DECODERS = {"Gemma3", "Cohere2Vision", "AyaVision", "Blip2", "InstructBlip"}


STEPS = {**LENGTH, "max_new_tokens": 8}


class Inside(asymvlm.Method):
    """A known order, different for each sample, before one or two layers."""

    layer = 1

    def __init__(self, second=False):
        self.second = second

    def stages(self, count, total, depth):
        return {1: (count + total) // 2, 2: count} if self.second else {2: count}

    def score(self, tokens):
        place = tokens.grid[:, 0] * 31 + tokens.grid[:, 1] * 7 + tokens.grid[:, 2]
        return torch.sin(place.float() * (1.0 + float(tokens.text_ids.sum() % 7)))


@pytest.fixture(params=families.IN_SEQUENCE, ids=str, scope="module")
def case(request):
    model = request.param.build()
    if request.param.name in OTHER_DECODERS:
        pytest.skip("refused: see test_other_decoders_are_refused")
    return (
        model,
        families.batch(model, request.param),
        families.batch(model, request.param, request.param.beams),
    )


def blind(model, inputs, stages):
    """The dense model while its layers from each of `stages` on (layer.

    Kept indices per sample) miss the other vision columns.
    """
    vision = backbone_of(model).layout(inputs).vision
    there = inputs["attention_mask"].bool()

    def hide(layer):
        kept = [index for start, index in sorted(stages.items()) if start <= layer][-1]
        seen = there.clone()
        for row, index in enumerate(kept):
            columns = vision[row].nonzero().squeeze(-1)
            seen[row, columns] = False
            seen[row, columns[index]] = True

        def hook(module, args, kwargs):
            hidden = args[0] if args else kwargs["hidden_states"]
            cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
            past = 0 if cache is None else cache.layers[layer].get_seq_length()
            times = len(hidden) // len(seen)
            columns = torch.nn.functional.pad(
                seen.repeat_interleave(times, 0),
                (0, past + hidden.shape[1] - seen.shape[1]),
                value=True,
            )
            if mask is None:
                steps = torch.arange(hidden.shape[1])[:, None] + past
                mask = (torch.arange(columns.shape[1]) <= steps)[None, None]
            assert mask.dtype == torch.bool
            mask = mask & columns[:, None, None]
            mask = mask | ~mask.any(-1, keepdim=True)  # rows that see nothing are nobody's
            return args, {**kwargs, "attention_mask": mask}

        return hook

    return before_layers(model, hide, min(stages))


def first_stage(model, inputs):
    """What `Inside(second=True)` keeps before layer 1, from its own rule."""
    layout = backbone_of(model).layout(inputs, backbone_of(model).encode(inputs))
    kept = []
    for row, grid in enumerate(layout.grids):
        place = grid[:, 0] * 31 + grid[:, 1] * 7 + grid[:, 2]
        scores = torch.sin(
            place.float() * (1.0 + float(layout.input_ids[row][layout.text[row]].sum() % 7))
        )
        count = (max(1, int(0.4 * len(grid) + 0.5)) + len(grid)) // 2
        kept.append(torch.sort(scores, descending=True, stable=True).indices[:count].sort().values)
    return kept


class Late(asymvlm.Method):
    """Attention of the last text row in the layer below, as many methods take it."""

    layer = 1

    def score(self, tokens):
        return tokens.below().attention(slice(-1, None)).mean((0, 1))
