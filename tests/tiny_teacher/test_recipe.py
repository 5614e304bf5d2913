"""The recipe runs through its three stages and writes a directory that transformers loads.

Its parts do what they say.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from asymvlm.backbone.prompt import Prompter
from asymvlm.documents.world.dialogues import Difficulty, dialogue
from asymvlm.documents.world.generate import DIFFICULTIES, generate
from asymvlm.documents.world.words import PEOPLE, WORDS
from asymvlm.tiny_teacher.blocks import (
    BlockBuilder,
    block_logits,
    cells,
    easy_reading,
    sparse_reading,
    talking_reading,
)
from asymvlm.tiny_teacher.build import build_teacher
from asymvlm.tiny_teacher.labels import WORD_IDS, patch_labels
from asymvlm.training.main import main


def test_no_word_is_unknown_and_the_worlds_are_single_tokens(processor):
    tokenizer = processor.tokenizer
    for text in ("naïve 東京 €5 \n\tZebra", "What is the tax of tea? 470"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert all(
        len(tokenizer(form).input_ids) == 1
        for word in WORDS + PEOPLE
        for form in (word, f" {word}")
    )
    assert len(tokenizer("470").input_ids) == 3


def test_patch_labels_say_what_stands_there():
    page, _ = generate(0, "val", 2)  # a table
    labels = patch_labels(page, 14)
    for field in page.fields:
        on_value = cells([field.value_box], page, 14)
        mine = [
            p
            for p in on_value
            if labels.magnitude[p] >= 0 and labels.name[p] == WORD_IDS[field.name]
        ]
        assert any(labels.column[p] == WORD_IDS[field.column] for p in mine)
        digits = [d - 1 for d in labels.digits[mine[0]].tolist() if 1 <= d <= 10]
        assert labels.sees_name[mine[0]].any() and labels.sees_column[mine[0]].any()
        assert int("".join(map(str, digits))) in [
            f.value for f in page.fields if f.name == field.name
        ]


def test_readings_keep_the_evidence():
    rng = np.random.default_rng(0)
    for index in range(8):
        page, _ = generate(0, "teacher", index)
        reading = sparse_reading(0, page, rng, 48, 4, 14)
        assert len(reading.tokens) == 48 and (np.diff(reading.tokens) > 0).all()
        for question in reading.questions:
            assert np.isin(
                cells(question.evidence_boxes + question.key_boxes, page, 14), reading.tokens
            ).all()
        easy = easy_reading(0, page, rng, 1, 24, 1, 14)
        assert len(easy.tokens) == 24 and len(easy.questions) == 1


def test_dialogues_state_what_is_asked():
    rng = np.random.default_rng(0)
    for index in range(8):
        page, _ = generate(0, "teacher", index)
        questions = dialogue(page, rng, Difficulty(6, 4), text=6, page_only=1, both=3)
        assert [question.group for question in questions] == ["text"] * 6 + ["page"] + ["both"] * 3
        (history,) = {question.history for question in questions}
        facts = " ".join(user for user, reply in history if reply == "noted")
        for question in questions:
            person = next((one for one in PEOPLE if one in question.text), None)
            stated = [
                fact.strip()
                for fact in facts.split(".")
                if person and f" {person} " in f" {fact.strip()} "
            ]
            assert len(stated) == (question.group != "page")
            if question.group == "text":
                assert question.answers == (stated[0],) and not question.evidence_boxes
            if question.group == "both":
                fields = [
                    field
                    for field in page.fields
                    if f"{stated[0]} {field.value}" == question.answers[0]
                ]
                assert any(field.name in stated[0] for field in fields) and question.evidence_boxes
        assert len(history) >= 4 + 2


@pytest.mark.parametrize("difficulty", DIFFICULTIES, ids=str)
def test_what_is_asked_of_the_page_was_not_told(difficulty):
    rng, told = np.random.default_rng(0), 0
    for index in range(40):
        page, _ = generate(0, "teacher", index)
        questions = dialogue(page, rng, difficulty, text=1, page_only=3, both=3)
        asked = [
            re.findall(r"\w+", user) for user, reply in questions[0].history if reply.isdigit()
        ]
        told += len(asked)
        for question in questions:
            for field in page.fields:
                if field.value_box in question.evidence_boxes:
                    assert not any(
                        field.name in user and (field.column is None or field.column in user)
                        for user in asked
                    )
    assert told > 20, "most dialogues do talk about the page"


@torch.no_grad()
def test_the_llm_starts_by_looking_back(processor):
    torch.manual_seed(0)
    teacher = build_teacher(processor.tokenizer).eval()
    teacher.set_attn_implementation("eager")
    ids = torch.randint(10, len(processor.tokenizer), (8, 24))
    attention = (
        teacher.model.language_model(input_ids=ids, output_attentions=True).attentions[0].mean(0)
    )
    rows = torch.arange(8, 24)
    for head, back in enumerate((1, 2, 3, 4)):
        assert torch.equal(attention[head, rows].argmax(-1), rows - back), (
            f"head {head} brings the word {back} before"
        )


@pytest.mark.parametrize("talk", [None, 3], ids=["questions", "dialogue"])
def test_a_block_gives_the_logits_of_the_plain_prompt(processor, talk):
    """Many questions in one sequence are read as if each stood alone, at the end of the same
    dialogue.
    """
    torch.manual_seed(0)
    teacher = build_teacher(processor.tokenizer).eval()
    builder = BlockBuilder(processor.tokenizer, 256)
    page, _ = generate(0, "val", 1)
    rng = np.random.default_rng(0)
    if talk is None:
        reading = easy_reading(0, page, rng, 99, 256, 4, 14)
    else:
        reading = talking_reading(0, page, rng, Difficulty(5, talk), 99, 256, (4, 2, 3), 14)
    tokenizer = processor.tokenizer
    pixels = (
        torch.from_numpy(np.asarray(page.image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    )
    with torch.no_grad():
        features = torch.stack(
            list(teacher.model.get_image_features(pixels, return_dict=True).pooler_output)
        )
        logits, labels = block_logits(teacher, builder([reading]), features)
        rows = []
        for question in reading.questions:
            prompt = Prompter(processor).text(question.text, 1, question.history)
            answer = tokenizer(question.answers[0]).input_ids
            inputs = processor(images=page.image, text=prompt, return_tensors="pt")
            ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
            out = teacher(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[
                0, -len(answer) - 1 :
            ]
            rows.append(out)
            assert labels[: len(answer)].tolist() == answer
            labels = labels[len(answer) + 1 :]
    torch.testing.assert_close(logits, torch.cat(rows), atol=1e-4, rtol=1e-4)


# Lightning's and jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("config", ["tiny", "tiny-unaligned"])
def test_recipe_runs_and_transformers_loads_the_result(
    config, tmp_path, page_samples, monkeypatch, capsys
):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    small = {
        "model.tower.steps": 2, "model.reading.steps": 2, "model.joint.steps": 2, "data.pages": 6,
        "data.crowded": 4, "data.tower_batch": 3, "data.reading_batch": 3, "data.joint_batch": 3,
        "trainer.enable_progress_bar": "false",
    }  # fmt: skip
    flags = [part for key, value in small.items() for part in (f"--{key}", str(value))]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "trainer:\n  callbacks:\n    - class_path: asymvlm.tiny_teacher.export.ExportTeacher\n"
        "      init_args: {directory: made, check_pages: 2}\n"
    )
    monkeypatch.chdir(tmp_path)
    configs = ["--config", f"teacher/{config}", "--config", str(overlay)]
    assert main([*configs, *flags]) == 0, capsys.readouterr().err
    directory = tmp_path / "made"
    assert (
        sum(path.stat().st_size for path in directory.rglob("*")) <= 8e6
        and (directory / "report.json").is_file()
    )
    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory)
    assert 1e6 <= model.num_parameters() <= 4e6
    prompt = processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "What is the tea?"}],
            }
        ],
        add_generation_prompt=True,
    )
    inputs = processor(images=page_samples[0].image, text=prompt, return_tensors="pt").to(
        model.dtype
    )
    assert model.generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]
