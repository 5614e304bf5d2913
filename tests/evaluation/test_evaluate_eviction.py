"""Dialogues replay turn by turn, and the table of eviction policies."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace

import datasets
import pytest
import torch

import asymvlm
from asymvlm.backbone.prompt import Prompter
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.distillation.teacher import Teacher
from asymvlm.documents import samples
from asymvlm.documents.sample import FEATURES
from asymvlm.documents.world.generate import generate_dialogue
from asymvlm.documents.world.generated import generated_dialogues, page_row
from asymvlm.evaluation.cost.cost import flop_counter
from asymvlm.evaluation.cost.vision_cost import vision_macs
from asymvlm.evaluation.dialogue_replay import replay
from asymvlm.evaluation.main import main
from asymvlm.eviction.policies.streaming_llm import StreamingLLM
from asymvlm.methods.grid import Grid
from asymvlm.scorers import BudgetHead, scorers

TASKS = ("text", "page", "both", "all", "all/4 facts, 2 turns")


@pytest.fixture(scope="module")
def side(llava, processor):
    return Teacher(llava, Prompter(processor))


@pytest.fixture(scope="module")
def asked():
    rows = [page_row(f"d{index}", *generate_dialogue(3, "test", index)) for index in range(2)]
    return list(samples(datasets.Dataset.from_list(rows, features=FEATURES)))


def test_turns_end_where_the_user_goes_on(side, asked):
    sample = asked[0]
    ids = side.inputs([sample])["input_ids"][0]
    ends = side.prompter.ends_of_turns(sample)
    assert len(ends) == len(sample.history) and ends == sorted(set(ends)) and ends[-1] < len(ids)
    for (user, reply), start, end in zip(sample.history, [0, *ends], ends, strict=False):
        said = side.prompter.tokenizer.decode(ids[start:end])
        assert user.split()[-1] in said and f"ASSISTANT:{reply}</s>" in said


def test_replayed_without_eviction_is_the_whole_prompt(side, asked):
    for sample in asked[:3]:
        inputs = side.inputs([sample])
        with torch.no_grad():
            made = side.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        whole = side.prompter.decode(made[:, inputs["input_ids"].shape[1] :])[0]
        ending = replay(side, sample, 6)
        assert ending.text == whole
        assert ending.peak_bytes > 0 and ending.tokens > 0


def test_replayed_with_pruning_and_eviction(side, asked):
    sample = asked[0]
    full = replay(side, sample, 4)
    with (
        asymvlm.prune(side.model, Grid(), keep=0.25) as pruned,
        asymvlm.evict(side.model, StreamingLLM(recent=8), 24) as evicted,
    ):
        ending = replay(side, sample, 4, evicted)
    assert pruned.calls[0].after == [64] and len(pruned.calls) == 1, (
        "pruned once, and every turn read on that cache"
    )
    (call,) = evicted.calls
    assert call.held[0] <= 24 < call.seen[0]
    assert ending.peak_bytes < full.peak_bytes


@pytest.mark.parametrize("evicting", [False, True])
def test_macs_are_what_torch_counts(side, asked, evicting):
    with ExitStack() as stack:
        report = (
            stack.enter_context(asymvlm.evict(side.model, StreamingLLM(recent=8), 24))
            if evicting
            else None
        )
        counter = stack.enter_context(flop_counter())
        ending = replay(side, asked[0], 4, report)
    assert 2 * (ending.macs + sum(vision_macs(side.model.config, 1))) == pytest.approx(
        counter.get_total_flops(), rel=1e-3
    )


@pytest.mark.filterwarnings("default")  # jsonargparse's own, as a user would see them
def test_the_command_writes_a_table(llava, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    llava.save_pretrained("teacher")
    processor.save_pretrained("teacher")
    save_scorer(
        TrainedScorer(scorers()["low_rank"](40), BudgetHead(40), (0, 1, 2, 3)),
        tmp_path / "scorer",
        "card",
    )
    (tmp_path / "table.yaml").write_text(
        "policies:\n  newest: {class_path: asymvlm.eviction.policies.streaming_llm.StreamingLLM, "
        "init_args: {recent: 4}}\n"
        "teacher: teacher\nscorer: scorer\nshares: [0.5]\npages: 2\nlongest_answer: 3\noutput: "
        "out\n"
    )
    assert main(["eviction", "--config", "table.yaml"]) == 0
    rows = json.loads((tmp_path / "out/eviction.json").read_text())
    assert {(row["policy"], row["keep"], row["task"]) for row in rows} == {
        (policy, keep, task)
        for policy in ("full cache", "newest")
        for keep in (1.0, 0.25)
        for task in TASKS
    }
    for row in rows:
        assert row["n"] == (6 if row["task"].startswith("all") else 2) and 0 <= row["accuracy"] <= 1
        assert (row["text_budget"] is None) == (row["policy"] == "full cache")
        assert row["agreement"] == 1.0 or row["policy"] == "newest"
    sizes = {
        (row["policy"], row["keep"]): row["peak_bytes"] for row in rows if row["task"] == "all"
    }
    assert (
        sizes["newest", 1.0]
        < sizes["full cache", 1.0]
        > sizes["full cache", 0.25]
        > sizes["newest", 0.25]
    )
    table = (tmp_path / "out/eviction.md").read_text()
    assert "| newest |" in table and "newest: unlike its authors' form, entries keep" in table


def test_dialogues_are_stored_with_their_history(tmp_path):
    again = [list(samples(generated_dialogues(tmp_path, "test", 2, seed=3))) for _ in range(2)]
    assert [replace(one, images=()) for one in again[0]] == [
        replace(one, images=()) for one in again[1]
    ]
    assert {one.group for one in again[0]} == {"text", "page", "both"} and all(
        one.history for one in again[0]
    )
