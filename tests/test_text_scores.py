"""The learned rule for text is what a regression on the LLM's own attention says, and eviction can use it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import asymvlm
from asymvlm.documents import samples
from asymvlm.documents.generated import generated_dialogues
from asymvlm.eviction.learned import LearnedText
from asymvlm.prompts import Prompter
from asymvlm.teacher import Teacher
from asymvlm.training.text_scores import _looked_at, _said, text_scores


@pytest.fixture(scope="module")
def side(llava, processor):
    return Teacher(llava, Prompter(processor))


@pytest.fixture(scope="module")
def asked(data_root):
    return list(samples(generated_dialogues(data_root, "train", 2)))


def test_what_was_said_ends_where_the_question_begins(side, asked):
    prompts = side.look(asked)
    said_in, layout = _said(side, prompts, asked), prompts.layout
    for row, ids, vision, sample in zip(said_in, layout.input_ids, layout.vision, asked, strict=True):
        said = side.prompter.tokenizer.decode(ids[row])
        assert all(user in said and reply in said for user, reply in sample.history)
        assert said.count("USER:") == said.count("ASSISTANT:") + 1 == len(sample.history) + 1, "the next turn's name is there already"
        assert not said.endswith(sample.question) and not (row & vision).any()


def test_the_line_is_a_ridge_regression(teacher, side, asked, data_root, tmp_path):
    file = text_scores(str(teacher), str(tmp_path / "new/line.safetensors"), str(data_root), pages=2, batch_size=4, ridge=1e-9)
    stored = load_file(file)
    assert stored["weight"].shape == (2, 40) and stored["bias"].shape == (2,)
    pairs = [_looked_at(side, asked[start : start + 4]) for start in (0, 4)]
    for number in range(2):
        values, mass = (torch.cat([pair[number][place] for pair in pairs]) for place in (0, 1))
        assert len(values) == sum(len(pair[number][0]) for pair in pairs) and float(mass.max()) <= 1
        design = torch.nn.functional.pad(values, (0, 1), value=1.0)
        expected = torch.linalg.lstsq(design, mass[:, None]).solution[:, 0]
        made = torch.cat([stored["weight"][number], stored["bias"][[number]]]).double()
        torch.testing.assert_close(design @ made, design @ expected, atol=1e-4, rtol=1e-2)


@torch.no_grad()
def test_eviction_goes_by_it(teacher, llava, batch, data_root, tmp_path):
    file = text_scores(str(teacher), str(tmp_path / "line.safetensors"), str(data_root), pages=2)
    with asymvlm.evict(llava, LearnedText(file, sinks=1, recent=4), text_budget=8) as report:
        llava.generate(**batch, max_new_tokens=6, do_sample=False)
    assert report.calls[0].held == [8] * len(batch["input_ids"])


def test_no_dialogues_are_refused():
    with pytest.raises(ValueError, match="pages: 0"):
        text_scores(pages=0)
