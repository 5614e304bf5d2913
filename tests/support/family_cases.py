"""Every family once, and dense references that hide tokens."""

from __future__ import annotations

import pytest

from asymvlm.backbone import backbone_of

from . import families


@pytest.fixture(params=families.IN_SEQUENCE, ids=str, scope="module")
def case(request):
    """(model, its batch of two: one picture and two pictures, of different lengths.

    The batch for beams).
    """
    model = request.param.build()
    return (
        model,
        families.batch(model, request.param),
        families.batch(model, request.param, request.param.beams),
    )


def masked(model, inputs, kept, generating):
    """The same call, dense, with the dropped columns hidden from attention and positions as they
    were.
    """
    backbone = backbone_of(model)
    vision = backbone.layout(inputs).vision
    mask = inputs["attention_mask"].clone()
    for row, index in enumerate(kept):
        columns = vision[row].nonzero().squeeze(-1)
        mask[row, columns] = 0
        mask[row, columns[index]] = 1
    return {
        **inputs,
        "attention_mask": mask,
        "position_ids": backbone.positions(inputs, generating),
    }
