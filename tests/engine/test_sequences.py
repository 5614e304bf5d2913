"""Any sequence of contexts, calls and conversations equals the dense model with hidden columns.

Hypothesis draws what a caller does: opens and closes `prune` and `evict` (whose budget nothing
exceeds), begins conversations by `generate` or a plain call, goes on with them in any way, in any
context or outside of all, copies their caches, and has calls fail half way. After each the model's
words are compared with those of a twin that has no hooks at all and reads everything anew, with the
dropped columns hidden.
"""

from __future__ import annotations

import copy
import os
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)
from support import families
from support.eviction_runs import family
from support.eviction_runs import rule as policy
from support.families import ByCell
from support.inside_llm import Inside, blind

import asymvlm
from asymvlm.backbone import backbone_of

EXAMPLES = int(os.environ.get("ASYMVLM_EXAMPLES", "500"))
STEPS = {
    "do_sample": False, "pad_token_id": families.PAD, "eos_token_id": None,
    "suppress_tokens": [5, 6, 7, 8],
}  # fmt: skip
SHAPES = [((1,), (5,)), ((2,), (3,)), ((1, 1), (4, 2)), ((1, 2), (3, 6)), ((2, 1), (2, 5))]

torch.manual_seed(0)
MODEL = family("Llava").build().double().requires_grad_(False)
TWIN = copy.deepcopy(MODEL)
PROMPTS = [
    {
        name: value.double() if value.is_floating_point() else value
        for name, value in families.batch(MODEL, family("Llava"), *shape).items()
    }
    for shape in SHAPES
]


class FailsError(Exception):
    """What a call that fails half way raises."""


@dataclass
class Conversation:
    """One cache, and all that its model has read and said."""

    prompt: dict
    kept: list | None  # of the prompt; None where it was read dense
    inside: bool
    cache: object
    ids: torch.Tensor  # [B, T]
    mask: torch.Tensor  # [B, T], 0 on padding
    positions: torch.Tensor  # [B, T]
    evicting: bool  # whether the cache is one of `evict`
    used: list = field(default_factory=list)

    def logits(self, ids, mask, positions):
        """What the twin says behind `ids`, read at once."""
        call = {"input_ids": ids, "pixel_values": self.prompt["pixel_values"], "use_cache": False}
        if self.kept is None:
            return TWIN(**call, attention_mask=mask, position_ids=positions).logits[:, -1]
        layout = backbone_of(TWIN).layout(self.prompt)
        if self.inside:
            grown = {**self.prompt, "attention_mask": self.prompt["attention_mask"]}
            with blind(TWIN, grown, {2: self.kept}):
                return TWIN(**call, attention_mask=mask, position_ids=positions).logits[:, -1]
        mask = mask.clone()
        for row, index in enumerate(self.kept):
            columns = layout.vision[row].nonzero().squeeze(-1)
            mask[row, columns] = 0
            mask[row, columns[index]] = 1
        return TWIN(**call, attention_mask=mask, position_ids=positions).logits[:, -1]

    def read(self, new, positions):
        """Grow by `new` tokens at `positions`; returns what the twin says behind them."""
        self.ids = torch.cat([self.ids, new], 1)
        self.mask = torch.cat([self.mask, torch.ones_like(new)], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        return self.logits(self.ids, self.mask, self.positions)

    def said(self, count):
        """The next `count` tokens of a greedy `generate`; the last is not read."""
        tokens = []
        for step in range(count):
            scores = self.logits(self.ids, self.mask, self.positions)
            scores[:, STEPS["suppress_tokens"]] = -torch.inf
            tokens.append(scores.argmax(-1, keepdim=True))
            if step < count - 1:
                self.read(tokens[-1], counted(self.mask, 1))
        return torch.cat(tokens, 1)


def counted(mask, new):
    """Positions that `generate` gives to `new` tokens behind `mask`."""
    return mask.sum(-1, keepdim=True) + torch.arange(new)


def right_padded(prompt):
    order = prompt["attention_mask"].argsort(dim=1, descending=True, stable=True)
    return {
        name: value.gather(1, order) if name in ("input_ids", "attention_mask") else value
        for name, value in prompt.items()
    }


def words(seed, batch, count):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(20, 90, (batch, count), generator=draw)


class Sequences(RuleBasedStateMachine):
    """What a caller may do with one model."""

    conversations = Bundle("conversations")

    @initialize()
    def begin(self):
        self.pruning = self.evicting = self.report = None
        self.inside = False

    def teardown(self):
        with ExitStack() as stack:
            for context in (self.pruning, self.evicting):
                if context is not None:
                    stack.callback(context.__exit__, None, None, None)
        assert "generate" not in vars(MODEL)
        assert MODEL.config.get_text_config()._attn_implementation == "sdpa"
        assert not any(part._forward_pre_hooks for part in MODEL.modules())

    @precondition(lambda self: self.pruning is None)
    @rule(inside=st.booleans(), whole=st.booleans())
    def open_prune(self, inside, whole):
        self.inside = inside
        keep = 1.0 if whole else 0.4 if inside else "auto"
        self.pruning = asymvlm.prune(MODEL, Inside() if inside else ByCell(), keep=keep)
        self.report = self.pruning.__enter__()

    @precondition(lambda self: self.pruning is not None)
    @rule()
    def close_prune(self):
        self.pruning.__exit__(None, None, None)
        self.pruning = None

    @precondition(lambda self: self.evicting is None)
    @rule()
    def open_evict(self):
        self.evicting = asymvlm.evict(MODEL, policy(), 10_000)
        self.evicting.__enter__()

    @precondition(lambda self: self.evicting is not None)
    @rule()
    def close_evict(self):
        self.evicting.__exit__(None, None, None)
        self.evicting = None

    @rule(target=conversations, which=st.integers(0, 4), count=st.integers(1, 3))
    def generate(self, which, count):
        prompt = PROMPTS[which]
        out = MODEL.generate(**prompt, **STEPS, max_new_tokens=count, return_dict_in_generate=True)
        positions = (prompt["attention_mask"].cumsum(-1) - 1).clamp_min(0)
        talk = self.conversation(prompt, out.past_key_values, positions)
        assert torch.equal(out.sequences[:, prompt["input_ids"].shape[1] :], talk.said(count))
        return talk

    @rule(target=conversations, which=st.integers(0, 4), right=st.booleans())
    def forward(self, which, right):
        prompt = right_padded(PROMPTS[which]) if right else PROMPTS[which]
        out = MODEL(**prompt, use_cache=True)
        shape = prompt["input_ids"].shape
        talk = self.conversation(prompt, out.past_key_values, torch.arange(shape[1]).expand(shape))
        if not right:
            last = talk.logits(talk.ids, talk.mask, talk.positions)
            torch.testing.assert_close(out.logits[:, -1], last, atol=1e-9, rtol=0)
        return talk

    def conversation(self, prompt, cache, positions):
        kept = self.report.calls[-1].kept if self.pruning is not None else None
        return Conversation(
            prompt, kept, self.inside, cache, prompt["input_ids"], prompt["attention_mask"],
            positions, self.evicting is not None,
        )  # fmt: skip

    def goes_on(self, talk, call):
        """Whether the call is answered, rather than refused for a reason that holds."""
        before = copy.deepcopy(talk.cache)
        try:
            self.answer = call()
        except ValueError as error:
            talk.cache = before
            text = str(error)
            if "begun outside of asymvlm.evict" in text or "asymvlm.evict alone" in text:
                assert talk.evicting != (self.evicting is not None), text
            else:
                assert "go on with it inside asymvlm.prune" in text, text
                assert talk.kept is not None
                assert self.pruning is None or (talk.inside and not self.inside), text
            return False
        return True

    @rule(talk=conversations, seed=st.integers(0, 99), count=st.integers(1, 3))
    def steps_by_hand(self, talk, seed, count):
        new = words(seed, len(talk.ids), count)
        mask = torch.cat([talk.mask, torch.ones_like(new)], 1)
        call = {"input_ids": new, "attention_mask": mask, "past_key_values": talk.cache}
        if self.goes_on(talk, lambda: MODEL(**call, use_cache=True).logits[:, -1]):
            seen = talk.ids.shape[1]
            positions = torch.arange(seen, seen + count).expand_as(new)
            expected = talk.read(new, positions)
            torch.testing.assert_close(self.answer, expected, atol=1e-9, rtol=0)

    @rule(talk=conversations, seed=st.integers(0, 99), count=st.integers(1, 3))
    def further_turn(self, talk, seed, count):
        new = words(seed, len(talk.ids), 2)
        ids = torch.cat([talk.ids, new], 1)
        mask = torch.cat([talk.mask, torch.ones_like(new)], 1)
        call = {"input_ids": ids, "attention_mask": mask, "past_key_values": talk.cache}
        arguments = {**call, **STEPS, "max_new_tokens": count}
        if self.goes_on(talk, lambda: MODEL.generate(**arguments)):
            talk.read(new, counted(talk.mask, 2))
            assert torch.equal(self.answer[:, ids.shape[1] :], talk.said(count))

    @rule(target=conversations, talk=conversations)
    def copy_a_cache(self, talk):
        other = copy.copy(talk)
        other.cache = copy.deepcopy(talk.cache)
        return other

    @rule(which=st.integers(0, 4))
    def fail_half_way(self, which):
        def stop(module, args):
            raise FailsError

        handle = MODEL.model.language_model.layers[1].register_forward_pre_hook(stop)
        for call in (MODEL, lambda **prompt: MODEL.generate(**prompt, **STEPS)):
            with pytest.raises(FailsError):
                call(**PROMPTS[which])
        handle.remove()


Sequences.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=os.environ.get("ASYMVLM_SEED") is None,
)
# A context in which nothing is called warns.
TestSequences = pytest.mark.filterwarnings("ignore:asymvlm:UserWarning")(Sequences.TestCase)
