"""VLM-Pruner and our scorer on five VLMs; ATP on them and more is in test_atp.py."""

from __future__ import annotations

import pytest
import torch
from support import families

import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.checkpoint.scorer import TrainedScorer
from asymvlm.methods.vlm_pruner import VLMPruner
from asymvlm.scorers import BudgetHead, scorers

FIVE = ["Llava", "LlavaNext", "Qwen2VL", "Qwen2_5_VL", "InternVL"]


def learned(width):
    torch.manual_seed(1)
    return TrainedScorer(
        scorers()["cross_attention"](width, hidden=16, heads=4), BudgetHead(width), (1,)
    ).eval()


@pytest.fixture(params=FIVE, scope="module")
def case(request):
    family = next(one for one in families.IN_SEQUENCE if one.name == request.param)
    model = family.build()
    return model, families.batch(model, family)


@pytest.mark.parametrize(
    "make", [learned, lambda width: VLMPruner(layer=1)], ids=["learned", "vlm_pruner"]
)
@torch.no_grad()
def test_runs_with_the_exact_count_and_its_own_choice_per_sample(case, make):
    model, inputs = case
    method = make(backbone_of(model).width)
    depth = len(backbone_of(model).decoder.layers)
    with asymvlm.prune(model, method, keep=0.4) as report:
        logits = model(**inputs).logits
        made = model.generate(**inputs, **families.LENGTH)
    assert (
        logits.isfinite().all()
        and made.shape[1] == inputs["input_ids"].shape[1] + families.LENGTH["max_new_tokens"]
    )
    call = report.calls[0]
    assert call.after == [max(1, int(0.4 * before + 0.5)) for before in call.before]
    assert len(set(call.after)) == 2, "ragged"
    inside = isinstance(method, VLMPruner)
    for before, after, layers in zip(call.before, call.after, call.per_layer(depth), strict=True):
        assert layers == [before if inside else after, *[after] * (depth - 1)]
    first = call.kept[0]
    assert not torch.equal(first, torch.arange(len(first))), "a choice, not the first tokens"
    with asymvlm.prune(model, make(backbone_of(model).width), keep=0.4) as again:
        model(**inputs)
    assert all(
        torch.equal(one, other) for one, other in zip(call.kept, again.calls[0].kept, strict=True)
    )
