"""From a method and a budget to the tokens that are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone, Call, Kept
from ..methods import Method
from ..methods.base import Tokens
from ..selectors import Keep, count_for, gap_count, top_k
from .token_views import sample_tokens


@torch.no_grad()
def select_batch(backbone: Backbone, method: Method, keep: Keep, call: Call) -> list[Kept]:
    """Choose the kept tokens of each sample before the LLM, one call of the method each."""
    return [select_tokens(method, keep, tokens) for tokens in sample_tokens(backbone, call)]


@torch.no_grad()
def select_tokens(method: Method, keep: Keep, tokens: Tokens) -> Kept:
    """Choose the kept tokens of one sample; none of a sample without vision tokens.

    Raises ValueError where the method gives something else than finite scores for all tokens,
    ascending indices as many as asked for, or a feature for each.
    """
    if len(tokens.vision) == 0:
        return Kept(torch.zeros(0, dtype=torch.long, device=tokens.vision.device))
    # A caller's autocast must not round what is compared here.
    with torch.autocast(tokens.vision.device.type, enabled=False):
        scores = _scores(method, tokens) if type(method).select is Method.select else None
        count = _count(method, keep, tokens, scores)
        index = top_k(scores, count) if scores is not None else _selected(method, tokens, count)
        fuses = type(method).merge is not Method.merge
        return Kept(index, _merged(method, tokens, index) if fuses else None, scores)


def _scores(method: Method, tokens: Tokens) -> Tensor:
    scores, total = method.score(tokens), len(tokens.vision)
    if scores.shape != (total,) or not bool(torch.isfinite(scores).all()):
        raise ValueError(
            f"{type(method).__name__}.score gave {tuple(scores.shape)} scores, finite: "
            f"{bool(torch.isfinite(scores).all())}; it must give one finite score for each of "
            f"{total} vision tokens"
        )
    return scores


def _selected(method: Method, tokens: Tokens, count: int) -> Tensor:
    index, total = method.select(tokens, count), len(tokens.vision)
    if not isinstance(index, Tensor):
        gave = f"a {type(index).__name__}"
    elif index.dtype != torch.int64 or index.shape != (count,):
        gave = f"{str(index.dtype).removeprefix('torch.')} of {tuple(index.shape)}"
    elif bool((index[0] >= 0) & (index[-1] < total) & (index[1:] > index[:-1]).all()):
        return index
    else:
        low, high = index.aminmax()
        gave = f"{len(index.unique())} different ones from {int(low)} to {int(high)}"
    raise ValueError(
        f"{type(method).__name__}.select gave {gave}; it must give {count} different indices below "
        f"{total}, ascending, as int64 of ({count},)"
    )


def _merged(method: Method, tokens: Tokens, index: Tensor) -> Tensor:
    features, wanted = method.merge(tokens, index), (len(index), tokens.vision.shape[-1])
    if features.shape != wanted:
        raise ValueError(
            f"{type(method).__name__}.merge gave features of {tuple(features.shape)}; it must give "
            f"one for each token kept, {wanted}"
        )
    return features


def _count(method: Method, keep: Keep, tokens: Tokens, scores: Tensor | None) -> int:
    if keep == "gap":
        if scores is None:
            raise ValueError(
                f'keep: "gap" needs scores; {type(method).__name__} selects a set, '
                "give a share or a count"
            )
        return gap_count(scores)
    share = method.budget(tokens) if keep == "auto" else keep
    return count_for(share, len(tokens.vision))  # type: ignore[arg-type]
