"""Models, batches and dense references for eviction."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers as tf

import asymvlm

from . import families
from .eviction_runs import (
    BUDGET,
    OPEN,
    SLIDING,
    STEPS,
    close,
    dense,
    family,
    step_logits,
)


def mistral3():
    """As Mistral publishes it: without a window."""

    def config():
        made = family("Mistral3").config()
        made.text_config.sliding_window = None
        return made

    return dataclasses.replace(family("Mistral3"), config=config)


@pytest.fixture(
    params=[one for one in families.IN_SEQUENCE if one.name not in SLIDING] + [mistral3()],
    ids=str,
    scope="module",
)
def case(request):
    """(model, its batch: one picture and 20 words, two pictures and 4 words.

    The batch for beams).
    """
    model = request.param.build()
    made = [
        families.batch(model, request.param, pictures, words=(20, 4))
        for pictures in ((1, 2), request.param.beams)
    ]
    return model, *made


class Apart(tf.LogitsProcessor):
    """Beams that go their own ways and overtake each other.

    But for these, all beams of a tiny model share all but their last words.

    Twice they branch as they like, so that beams die and others double.
    """

    def __init__(self):
        self.step = -1

    def __call__(self, ids, scores):
        self.step += 1
        if self.step in (0, 9):
            return scores
        mark = (ids * torch.arange(1, ids.shape[1] + 1)).sum(-1, keepdim=True)
        return torch.full_like(scores, -1e6).scatter(
            1, 20 + mark % 97, torch.sin(mark * 1.7 + self.step) - 2
        )


def beams(model, inputs, policy):
    """(report, what three beams per sample gave: [B, 3, T], its logits.

    [B, 3, T, V]) of one evicted call of `generate`.
    """
    apart = tf.LogitsProcessorList([Apart()])
    with asymvlm.evict(model, policy, BUDGET) as report:
        out = model.generate(
            **inputs, **STEPS, **OPEN, num_beams=3, num_return_sequences=3, logits_processor=apart
        )
    index = out.beam_indices
    assert (index[:, 1:] != index[:, :-1]).any(), "beams changed places"
    logits = torch.stack(out.logits, 1)[index, torch.arange(24)]
    return report, out.sequences[:, -24:].unflatten(0, (-1, 3)), logits.unflatten(0, (-1, 3))


def one_by_one(model, inputs, policy, made, logits):
    """Each continuation again without beams, and its evictions then hidden from the dense model.

    All agree. What left, by continuation.
    """
    histories = []
    for number in range(3):
        with asymvlm.evict(model, policy, BUDGET) as report:
            alone = step_logits(model, inputs, made[:, number])
        histories.append(report.calls[0].evicted)
        expected = dense(model, inputs, made[:, number], histories[-1])
        close(alone, expected)
        close(logits[:, number], expected)
    return histories


def by_the_rule(name, attention, text, prompt):
    """What leaves a row by the rule of a policy as `rule` makes it, in plain words.

    (position, newest position).

    `attention` is the layer's, `[S, S]` by position, `text` the positions that are text, `prompt`
    how many stand in the prompt.
    """
    held = []
    others = [place for place in range(len(attention)) if place not in text]
    score = {}
    gone = []
    sinks, recent = {
        "threshold": (2, 4),
        "h2o": (0, BUDGET // 2),
        "tova": (0, 1),
        "snap_kv": (0, 5),
    }[name]
    for newest in range(prompt - 1, len(attention)):
        new = range(newest + 1) if newest == prompt - 1 else [newest]
        held += [place for place in text if place in new]
        row = attention[newest].tolist()
        for place in held:
            if name == "threshold":
                score[place] = 0.5 * score.get(place, 0.0) + row[place]
            if name == "h2o":
                score[place] = score.get(place, 0.0) + float(attention[list(new), place].sum())
            if name == "tova":
                score[place] = row[place]
        if name == "snap_kv":
            line = sorted(place for place in held + others if place <= newest - recent)
            mass = [
                float(attention[max(0, newest - 4) : newest + 1, place].sum()) for place in line
            ]
            score = dict.fromkeys(held, 0.0)
            score |= {place: sum(mass[max(0, at - 2) : at + 3]) for at, place in enumerate(line)}
        mean = sum(score[place] for place in held) / len(held)
        low = 0.5 * mean if name == "threshold" else -1.0
        ranked = sorted(
            (place for place in held[sinks:] if place not in held[-recent:]),
            key=lambda place: (score[place] >= low, score[place] if score[place] >= low else place),
        )
        leaves = ranked[: max(0, len(held) - BUDGET)]
        held = [place for place in held if place not in leaves]
        gone += sorted((place, newest) for place in leaves)
    return gone


def conversation(model, inputs, policy, parts):
    """(report, logits of each row's newest token after each part): a prompt, then `parts`.

    (ids, which of them are real).
    """
    ids, mask, logits = inputs["input_ids"], inputs["attention_mask"], []
    with asymvlm.evict(model, policy, BUDGET) as report:
        cache = tf.DynamicCache()
        for words, there in [(ids, mask), *parts]:
            past = cache.get_seq_length()
            mask = there if past == 0 else torch.cat([mask, there], dim=1)
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, past:]
            pictures = {"pixel_values": inputs["pixel_values"]} if past == 0 else {}
            out = model(
                input_ids=words,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                **pictures,
            )
            newest = words.shape[1] - 1 - there.flip(-1).argmax(-1)
            logits.append(out.logits[torch.arange(len(words)), newest])
    return report, logits
