"""The learned rule for text is what a regression on the LLM's own attention says, and eviction can
use it.
"""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file

import asymvlm
from asymvlm.backbone.prompt import Prompter
from asymvlm.distillation.teacher import Teacher
from asymvlm.documents import samples
from asymvlm.documents.sources.source import DataSource
from asymvlm.documents.world.generated import generated_dialogues
from asymvlm.eviction.policies.linear import LinearEvictor
from asymvlm.training.fit_eviction import _said, _values_and_attention, fit_eviction


@pytest.fixture(scope="module")
def side(llava, processor):
    return Teacher(llava, Prompter(processor))


@pytest.fixture(scope="module")
def asked(data_root):
    return list(samples(generated_dialogues(data_root, "train", 2)))


def test_what_was_said_ends_where_the_question_begins(side, asked):
    prompts = side.encode_batch(asked)
    said_in, layout = _said(side, prompts, asked), prompts.layout
    for row, ids, vision, sample in zip(
        said_in, layout.input_ids, layout.vision, asked, strict=True
    ):
        said = side.prompter.tokenizer.decode(ids[row])
        assert all(user in said and reply in said for user, reply in sample.history)
        assert said.count("USER:") == said.count("ASSISTANT:") + 1 == len(sample.history) + 1, (
            "the next turn's name is there already"
        )
        assert not said.endswith(sample.question) and not (row & vision).any()


@torch.no_grad()
def test_values_and_attention_are_the_models_own(side, asked, llava):
    eager = copy.deepcopy(llava)
    eager.set_attn_implementation("eager")
    for sample in asked[:2]:
        prompts, inputs = side.encode_batch([sample]), side.inputs([sample])
        width, (tail,) = inputs["input_ids"].shape[1], prompts.answer_ids
        whole = {
            "input_ids": torch.cat([inputs["input_ids"], tail[None, :-1]], 1),
            "pixel_values": inputs["pixel_values"],
        }
        out = eager(**whole, output_attentions=True, use_cache=True)
        (said,) = _said(side, prompts, [sample])
        for number, (values, mass) in _values_and_attention(side, [sample]).items():
            question = int(said.nonzero().max()) + 1
            expected = out.attentions[number][0, :, question:].amax((0, 1))[:width][said]
            torch.testing.assert_close(mass.float(), expected, atol=1e-5, rtol=1e-3)
            kept = (
                out.past_key_values.layers[number]
                .values[0]
                .transpose(0, 1)
                .flatten(1)[:width][said]
            )
            torch.testing.assert_close(values.float(), kept, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ridge", [1e-9, 0.3])
def test_the_line_is_a_ridge_regression(teacher, side, asked, data_root, tmp_path, ridge):
    data = DataSource(root=str(data_root))
    file = fit_eviction(
        str(teacher),
        str(tmp_path / "new/line.safetensors"),
        data,
        pages=2,
        batch_size=4,
        ridge=ridge,
    )
    stored = load_file(file)
    assert stored["weight"].shape == (2, 40) and stored["bias"].shape == (2,)
    pairs = [_values_and_attention(side, asked[start : start + 4]) for start in (0, 4)]
    for number in range(2):
        values, mass = (torch.cat([pair[number][place] for pair in pairs]) for place in (0, 1))
        design = torch.nn.functional.pad(values, (0, 1), value=1.0)
        penalty = (ridge * values.square().sum(0).mean()).sqrt() * torch.eye(
            41, dtype=torch.float64
        )[:40]  # none on the constant
        expected = torch.linalg.lstsq(
            torch.cat([design, penalty]), torch.cat([mass, mass.new_zeros(40)])[:, None]
        ).solution[:, 0]
        made = torch.cat([stored["weight"][number], stored["bias"][[number]]]).double()
        torch.testing.assert_close(design @ made, design @ expected, atol=1e-4, rtol=1e-2)


@torch.no_grad()
def test_what_leaves_is_what_the_line_puts_lowest(teacher, side, asked, data_root, tmp_path):
    file = fit_eviction(
        str(teacher), str(tmp_path / "line.safetensors"), DataSource(root=str(data_root)), pages=2
    )
    line, inputs = load_file(file), side.inputs(asked[:1])
    values = side.model(**inputs, use_cache=True).past_key_values.layers
    with asymvlm.evict(
        side.model, LinearEvictor(file, sinks=1, recent=4), text_budget=20
    ) as report:
        side.model(**inputs)
    text = side.backbone.layout(inputs).text[0].nonzero().flatten()
    for number, (pairs,) in report.calls[0].evicted.items():
        score = values[number].values[0].transpose(0, 1).flatten(1) @ line["weight"][number]
        may = text[1:-4]
        lowest = may[score[may].argsort()][: len(text) - 20]
        assert {position for position, _ in pairs} == set(lowest.tolist())


def test_no_dialogues_are_refused():
    with pytest.raises(ValueError, match="pages: 0"):
        fit_eviction(pages=0)
