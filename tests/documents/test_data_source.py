"""Whatever can be trained on can be evaluated.

Every form of data through both commands, in process.
"""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from support import ROOT
from support import SMALL as SMALL_CONFIG

from asymvlm.documents.sources.source import DataSource
from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own


CONFIG = ["--config", str(ROOT / "configs/any.yaml"), "--config", str(SMALL_CONFIG)]
TABLE = "asymvlm.training.callbacks.ResultsTable"
QUICK = "keeps: [0.25]\nlatency_batches: [1]\npages: 2\nmethods: {grid: {class_path: Grid}}\n"
COUNT = 12


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def folder_of_pages(place):
    for split in ("train", "val"):
        (place / split).mkdir(parents=True)
        lines = []
        for number in range(COUNT // 2):
            picture(number + 100 * (split == "val")).save(place / split / f"{number}.png")
            lines.append({"image": f"{number}.png", "question": "What is it?", "answers": ["a"]})
        (place / split / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ["--data.path", str(place)]


def pictures_elsewhere(place):
    (place / "pictures").mkdir(parents=True)
    for number in range(COUNT):
        picture(number).save(place / f"pictures/{number}.png")
    return [
        "--data.path",
        str(place / "pairs.jsonl"),
        "--data.images",
        str(place / "pictures"),
        "--data.val_share",
        "0.4",
    ]


def lines_beside_pictures(place):
    flags = pictures_elsewhere(place)
    lines = [
        {"id": "all alike", "image": f"{number}.png", "question": "What?", "answers": ["a"]}
        for number in range(COUNT)
    ]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return flags


def conversations(place):
    flags = pictures_elsewhere(place)
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a"}]
    said += [{"from": "human", "value": "And else?"}, {"from": "gpt", "value": "b"}]
    entries = [
        {"id": number, "image": f"{number}.png", "conversations": said} for number in range(COUNT)
    ]
    (place / "llava.json").write_text(json.dumps(entries))
    flags[1] = str(place / "llava.json")
    return flags


def other_columns(place):
    rows = [
        {"page": picture(number), "query": "What is it?", "label": ["a", "b"]}
        for number in range(COUNT)
    ]
    features = datasets.Features(
        page=datasets.Image(),
        query=datasets.Value("string"),
        label=datasets.List(datasets.Value("string")),
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(place))
    named = {"image": "page", "question": "query", "answers": "label"}
    columns = [part for key, column in named.items() for part in (f"--data.columns.{key}", column)]
    return ["--data.path", str(place), *columns, "--data.val_share", "0.4"]


FORMS = [folder_of_pages, lines_beside_pictures, conversations, other_columns]


@pytest.fixture
def trained(teacher, tmp_path, monkeypatch):
    """Trains with a results table at the end; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(QUICK)

    def run(*flags):
        where = [
            "--model.teacher",
            str(teacher),
            "--data.root",
            "data",
            "--trainer.logger",
            "false",
        ]
        table = [f"--trainer.callbacks+={TABLE}", "--trainer.callbacks.config", "quick.yaml"]
        return train([*CONFIG, *where, *table, *flags])

    return run


@pytest.mark.parametrize("form", FORMS)
def test_trained_evaluated_at_the_end_and_by_the_same_flags_again(
    form, trained, teacher, tmp_path, capsys
):
    flags = form(tmp_path / "given")
    assert trained(*flags) == 0, capsys.readouterr().err
    table = json.loads((tmp_path / "out/results/results.json").read_text())
    assert {row["method"] for row in table} == {"learned", "grid"}
    assert (
        evaluate(
            ["--config", "quick.yaml", "--teacher", str(teacher), "--scorer", "out/scorer", *flags]
        )
        == 0
    ), capsys.readouterr().err
    again = json.loads((tmp_path / "results/tiny/results.json").read_text())
    same = ("method", "task", "n", "accuracy", "keep_mean")
    assert [[row[name] for name in same] for row in table] == [
        [row[name] for name in same] for row in again
    ]


def test_equal_ids_in_a_file_are_judged_one_by_one(teacher, tmp_path, monkeypatch):
    """Twelve questions with one id, and answers that the model gives to half of them."""
    monkeypatch.chdir(tmp_path)
    flags = lines_beside_pictures(tmp_path / "given")
    Path("quick.yaml").write_text(QUICK)
    assert (
        evaluate(
            [
                "--config",
                "quick.yaml",
                "--teacher",
                str(teacher),
                "--scorer",
                "null",
                "--split",
                "train",
                *flags,
            ]
        )
        == 0
    )
    (file,) = Path("results/tiny/answers").glob("dense*")
    answers = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert len(answers) > 1 and len({one["id"] for one in answers}) == 1
    assert len({one["key"] for one in answers}) == len(answers)


@pytest.mark.parametrize(
    "flags,says",
    [
        (
            ["--data.columns.question", "query"],
            "data.columns: describes data that is not named; give its path",
        ),
        (
            ["--data.images", "pictures"],
            "data.images: describes data that is not named; give its path",
        ),
        (["--data.val_share", "2"], "data.val_share: 2.0 must lie between 0 and 1"),
    ],
)
def test_both_commands_refuse_the_same_in_the_same_words(trained, capsys, flags, says):
    assert trained(*flags) == 2 and says in capsys.readouterr().err
    assert evaluate(["--config", "quick.yaml", *flags]) == 2 and says in capsys.readouterr().err


def test_columns_that_are_not_there_are_named_before_training(trained, tmp_path, capsys):
    flags = other_columns(tmp_path / "given")[:2]
    assert trained(*flags) == 1
    assert "data.columns: the data has no image, question, answers" in capsys.readouterr().err
    assert not (tmp_path / "data/targets").exists()


def test_a_metric_that_cannot_judge_is_refused_before_training(trained, tmp_path, capsys):
    flags = folder_of_pages(tmp_path / "given")
    Path("quick.yaml").write_text(QUICK + "metric: vqa_accuracy\n")
    assert trained(*flags) == 2
    assert "vqa_accuracy" in capsys.readouterr().err and not (tmp_path / "data/targets").exists()


def test_old_names_of_flags_still_work_and_say_the_new_one(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(QUICK)
    flags = [
        "--config",
        "quick.yaml",
        "--teacher",
        str(teacher),
        "--scorer",
        "null",
        "--root",
        "pages",
        "--seed=1",
        "--questions",
        "[1,0]",
    ]
    assert evaluate(flags) == 0
    assert "note: --root is called --data.root now" in capsys.readouterr().err
    assert [path.name for path in Path("pages").iterdir()] == ["world-v4-seed1-test-2x1+0"]


def test_dialogues_of_one_s_own_are_replayed(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = conversations(tmp_path / "given")
    policy = "{class_path: asymvlm.eviction.policies.h2o.H2O, init_args: {sinks: 1, recent: 2}}"
    Path("evict.yaml").write_text(f"policies: {{h2o: {policy}}}\nshares: [0.5]\n")
    common = [
        "eviction",
        "--config",
        "evict.yaml",
        "--teacher",
        str(teacher),
        "--scorer",
        "null",
        "--longest_answer",
        "2",
    ]
    assert evaluate([*common, *flags]) == 0, capsys.readouterr().err
    assert {
        row["policy"] for row in json.loads(Path("results/eviction/eviction.json").read_text())
    } == {"full cache", "h2o"}
    assert evaluate([*common, *folder_of_pages(tmp_path / "pages")]) == 1
    assert "has a history of turns before it" in capsys.readouterr().err


def test_one_description_for_all_commands():
    """The parameters of training's data are the source's own, by name and default."""
    import dataclasses

    from jsonargparse import ArgumentParser

    from asymvlm.training.data import PagesData

    parser = ArgumentParser()
    parser.add_class_arguments(PagesData, "data")
    given = parser.get_defaults().data
    for field in dataclasses.fields(DataSource):
        default = (
            field.default if field.default is not dataclasses.MISSING else field.default_factory()
        )
        assert given[field.name] == default, field.name
