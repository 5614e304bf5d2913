"""What all methods before the LLM have in common."""

from __future__ import annotations

import pytest
import torch
from support.tower_tokens import Scores, make
from torch.utils._python_dispatch import TorchDispatchMode

from asymvlm.methods.cd_pruner import CDPruner
from asymvlm.methods.div_prune import DivPrune
from asymvlm.methods.holov import HoloV
from asymvlm.methods.id_pruner import IDPruner
from asymvlm.methods.non_blank import NonBlank
from asymvlm.methods.prumerge import PruMergePlus
from asymvlm.methods.prumerge_plain import PruMerge
from asymvlm.methods.scope import SCOPE
from asymvlm.methods.vis_pruner import VisPruner
from asymvlm.methods.vision_zip import VisionZip

METHODS = {
    "vision_zip": VisionZip,
    "prumerge": PruMerge,
    "prumerge_plus": PruMergePlus,
    "vis_pruner": VisPruner,
    "div_prune": DivPrune,
    "cd_pruner": lambda: CDPruner("clip"),
    "scope": SCOPE,
    "holov": HoloV,
    "id_pruner": lambda: IDPruner(Scores()),
    "non_blank": NonBlank,
}


def drawn(count, dtype=torch.float, width=8):
    """Random tokens; two of three are copies, so that there are ties."""
    generator = torch.Generator().manual_seed(count)
    same = torch.arange(count) // 3 if count % 2 else torch.arange(count)

    def numbers(columns):
        return torch.randn(count, columns, generator=generator)[same].to(dtype)

    attention = torch.rand(count, generator=generator)[same]
    return make(
        numbers(width),
        attention,
        numbers(width),
        2,
        numbers(width),
        numbers(1).relu(),
        attention,
        columns=8,
    )


@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_exactly_what_was_asked_for(name, dtype):
    for total in (1, 2, 5, 16, 75, 130):
        tokens = drawn(total, dtype)
        for count in sorted({1, min(2, total), (total + 2) // 3, max(1, total - 1), total}):
            method = METHODS[name]()
            kept = method.select(tokens, count)
            assert kept.dtype == torch.long and len(kept) == count
            assert torch.equal(kept, kept.unique()) and kept[0] >= 0 and kept[-1] < total, (
                "ascending, no repeats"
            )
            merged = method.merge(tokens, kept)
            assert (
                merged.shape == (count, 8)
                and merged.dtype == dtype
                and bool(merged.isfinite().all())
            )
            assert torch.equal(METHODS[name]().select(tokens, count), kept), "deterministic"
            assert torch.equal(METHODS[name]().merge(tokens, kept), merged)
        assert torch.equal(merged, tokens.vision), "all kept: nothing is changed"


@pytest.mark.parametrize("name", METHODS)
def test_tokens_all_alike(name):
    alike = make(
        torch.ones(20, 4),
        torch.full((20,), 0.05),
        torch.ones(20, 4),
        2,
        torch.ones(20, 4),
        torch.zeros(20),
        torch.ones(20),
    )
    assert len(METHODS[name]().select(alike, 7).unique()) == 7


@pytest.mark.parametrize("name", METHODS)
def test_watches_the_tower_where_it_reads_it(name):
    tokens, asked = drawn(9), []
    tower = tokens.tower
    tokens.tower = lambda: asked.append(True) or tower()
    method = METHODS[name]()
    method.merge(tokens, method.select(tokens, 3))
    assert method.reads_tower == bool(asked)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


@pytest.mark.parametrize("name", METHODS)
def test_memory_is_linear_in_the_number_of_tokens(name):
    total, tokens = 8192, drawn(8192, width=64)
    # VisPruner takes a round per eight tokens dropped; its first rounds are the largest.
    method, count = (
        (VisPruner(important=0), total - 16) if name == "vis_pruner" else (METHODS[name](), 512)
    )
    with Largest() as largest:
        method.merge(tokens, method.select(tokens, count))
    assert largest.elements <= total * 1024
