"""`with asymvlm.prune(model, scorer, keep=0.25) as report:` and the model runs on fewer vision tokens."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .backbone import Backbone, Encoded, Kept, Layout, backbone_of
from .checkpoint import TrainedScorer
from .methods import Learned, Method
from .sample_tokens import sample_tokens
from .selectors import Keep, check_keep, count_for, gap_count, top_k
from .turns import Turn

_SEEN = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")


@dataclass
class Call:
    """One pruned prefill."""

    before: list[int]  # vision tokens per sample
    after: list[int]
    kept: list[Tensor]  # per sample, ascending indices into its vision tokens
    scores: list[Tensor | None]  # per sample, where the method ranks


@dataclass
class PruneReport:
    """What was pruned. `text_only` counts calls without pictures, which passed through untouched."""

    calls: list[Call] = field(default_factory=list)
    text_only: int = 0


@contextmanager
def prune(model: PreTrainedModel, scorer: TrainedScorer | Method, keep: Keep = 0.25) -> Iterator[PruneReport]:
    """While open, `model(...)` and `model.generate(...)` drop vision tokens before the LLM.

    `keep` is a share in (0, 1], a count per sample, "auto" (the scorer's budget head) or "gap" (the score-gap rule). What
    `generate` returns starts with the original prompt. Survivors keep their positions.

    Raises ValueError for a bad `keep` or method, DataError for a model that cannot be pruned. Warns if the model was not called.
    """
    check_keep(keep)
    method = Learned(scorer) if isinstance(scorer, TrainedScorer) else scorer
    if not isinstance(method, Method):
        raise ValueError(f"scorer: {scorer!r} is neither a scorer from asymvlm.load_scorer nor an asymvlm.Method")
    backbone = backbone_of(model)
    pruner = _Pruner(backbone, method, keep)
    target: Any = backbone.model
    generate = target.generate
    handle = target.register_forward_pre_hook(pruner.before_forward, with_kwargs=True)
    target.generate = functools.partial(pruner.generate, generate)
    try:
        with backbone.ready():
            yield pruner.report
    finally:
        handle.remove()
        del target.generate
    if not pruner.report.calls and not pruner.report.text_only:
        warnings.warn("asymvlm.prune: the model was not called inside the context, so nothing was pruned", stacklevel=3)


class _Pruner:
    """Stands between the caller and one model."""

    def __init__(self, backbone: Backbone, method: Method, keep: Keep) -> None:
        self.backbone = backbone
        self.method = method
        self.keep = keep
        self.report = PruneReport()
        self._turn: Turn | None = None

    def before_forward(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict]:
        """A forward pre-hook: prunes a call that brings pixels, passes any other."""
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        if self._brings_pictures(inputs):
            return (), self._pruned(inputs, generating=False)
        # Decoding steps, and prefills of our own `generate`, bring no pixels and are no calls of their own.
        if inputs.get("mm_encoder_outputs") is None and inputs.get("past_key_values") is None:
            self.report.text_only += 1
        return args, kwargs

    def generate(self, original: Any, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """`generate` on the pruned prompt; what it returns starts with the original one."""
        if inputs is not None:
            kwargs["input_ids"] = inputs
        if self._turn is not None and self._turn.is_continued_by(kwargs):
            return self._further_turn(original, self._turn, *args, **kwargs)
        if not self._brings_pictures(kwargs):
            return original(*args, **kwargs)
        if kwargs.get("use_cache") is False:
            raise ValueError("use_cache: False cannot be combined with pruning in generate; leave it out")
        prompt = kwargs["input_ids"]
        pruned = self._pruned(kwargs, generating=True)
        if "position_ids" in pruned:  # tokens have left the sequence
            self._turn = Turn(prompt, {name: pruned[name] for name in _SEEN if name in pruned})
        return self._made(self.backbone.generate, prompt, pruned, original, *args)

    def _further_turn(self, original: Any, turn: Turn, *args: Any, **kwargs: Any) -> Any:
        if self._brings_pictures(kwargs):
            raise ValueError("past_key_values: a further turn on a pruned cache takes text alone; start anew with all pictures")
        return self._made(original, kwargs["input_ids"], turn.continued(kwargs), *args)

    def _made(self, generate: Any, prompt: Tensor, pruned: dict[str, Any], *args: Any) -> Any:
        """What `generate` makes of a pruned prompt, with the caller's prompt in front again."""
        length = pruned["input_ids"].shape[1]
        _shift_lengths(pruned, self.backbone.model.generation_config, prompt.shape[1] - length)
        result = generate(*args, **pruned)
        if isinstance(result, Tensor):
            return _with_prompt(result, prompt, length)
        result.sequences = _with_prompt(result.sequences, prompt, length)
        return result

    def _brings_pictures(self, inputs: Mapping[str, Any]) -> bool:
        names = self.backbone.picture_arguments(inputs)
        return any(name.startswith("pixel_values") for name in names)

    def _pruned(self, inputs: dict[str, Any], generating: bool) -> dict[str, Any]:
        backbone = self.backbone
        encoded = backbone.encode(inputs, self.method.reads_tower)
        layout = backbone.layout(inputs, encoded)
        kept = choose(backbone, self.method, self.keep, inputs, encoded, layout)
        self.report.calls.append(
            Call(layout.counts(), [len(one.index) for one in kept], [one.index for one in kept], [one.scores for one in kept])
        )
        return backbone.drop(inputs, encoded, layout, kept, generating)


@torch.no_grad()
def choose(backbone: Backbone, method: Method, keep: Keep, inputs: Mapping[str, Any], encoded: Encoded, layout: Layout) -> list[Kept]:
    """What stays of each sample, one call of the method per sample."""
    chosen = []
    for tokens in sample_tokens(backbone, inputs, encoded, layout):
        total = len(tokens.vision)
        if total == 0:
            chosen.append(Kept(torch.zeros(0, dtype=torch.long, device=tokens.vision.device)))
            continue
        scores: Tensor | None = None
        ranks = type(method).select is Method.select
        if ranks:
            scores = method.score(tokens)
            if scores.shape != (total,) or not bool(torch.isfinite(scores).all()):
                raise ValueError(
                    f"{type(method).__name__}.score gave {tuple(scores.shape)} scores, finite: "
                    f"{bool(torch.isfinite(scores).all())}; it must give one finite score for each of {total} vision tokens"
                )
        if keep == "gap":
            if scores is None:
                raise ValueError(f'keep: "gap" needs scores; {type(method).__name__} selects a set, give a share or a count')
            count = gap_count(scores)
        else:
            share = method.budget(tokens) if keep == "auto" else keep
            count = count_for(share, total)  # type: ignore[arg-type]
        index = top_k(scores, count) if scores is not None else method.select(tokens, count)
        if len(index) != count:
            raise ValueError(f"{type(method).__name__}.select gave {len(index)} tokens, {count} were asked for")
        merges = type(method).merge is not Method.merge
        chosen.append(Kept(index, method.merge(tokens, index) if merges else None, scores))
    return chosen


def _shift_lengths(arguments: dict[str, Any], default: Any, removed: int) -> None:
    """`max_length` and `min_length` count the prompt: take off what was pruned, so that they count as the user meant."""
    config = arguments.get("generation_config") or default
    for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        value = arguments.get(name, getattr(config, name, None))
        chosen = arguments.get(new, getattr(config, new, None))
        if value and chosen is None:
            arguments[name] = max(value - removed, 1 if name == "max_length" else 0)


def _with_prompt(sequences: Tensor, prompt: Tensor, length: int) -> Tensor:
    """Generated sequences (several per prompt, perhaps) with the pruned prompt replaced by the original."""
    per_prompt = sequences.shape[0] // prompt.shape[0]
    return torch.cat([prompt.repeat_interleave(per_prompt, dim=0), sequences[:, length:]], dim=1)
