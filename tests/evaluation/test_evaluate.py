"""The evaluation as people use it.

What is done is not done again, what cannot act is named, equal cost is equal.
"""

from __future__ import annotations

import json

import pytest
import torch
import wandb

import asymvlm
from asymvlm.distillation.teacher import Teacher
from asymvlm.documents.sources.source import DataSource
from asymvlm.evaluation import answer_cache as module
from asymvlm.evaluation.answers import pictures_of
from asymvlm.evaluation.cost.cost import llm_macs
from asymvlm.evaluation.cost.equal_cost import at_equal_cost
from asymvlm.evaluation.evaluate import evaluate
from asymvlm.evaluation.robustness.robustness import robustness
from asymvlm.methods import Learned
from asymvlm.methods.atp import ATP
from asymvlm.methods.grid import Grid
from asymvlm.methods.prumerge import PruMergePlus
from asymvlm.methods.random import Random
from asymvlm.pruning.report import seen_by_layer


class Inner(asymvlm.Method):
    """Acts before the second of two layers."""

    layer = 1

    def score(self, tokens):
        return tokens.grid[:, 2].float()


@pytest.fixture(scope="module")
def folder(llava, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    llava.save_pretrained(folder / "teacher")
    processor.save_pretrained(folder / "teacher")
    return folder


@pytest.fixture
def settings(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {
        "teacher": str(folder / "teacher"),
        "scorer": None,
        "keeps": [0.25],
        "pages": 3,
        "data": DataSource(root=str(folder / "data"), questions=(1, 1)),
        "batch_size": 2,
        "latency_batches": [2],
        "output": "out",
    }


def count_batches(monkeypatch):
    asked = []
    original = module.answer

    def counting(teacher, batch, method, keep, longest):
        asked.append((type(method).__name__, [sample.id for sample in batch]))
        return original(teacher, batch, method, keep, longest)

    monkeypatch.setattr(module, "answer", counting)
    return asked


def test_an_interrupted_run_goes_on(settings, monkeypatch, tmp_path):
    methods = {"grid": Grid(), "inner": Inner()}
    first = evaluate(methods=methods, **settings)
    asked = count_batches(monkeypatch)
    again = evaluate(methods=methods, **settings)
    assert [one for one in asked if len(one[1]) > 1] == [], (
        "only the length of a question is asked for again"
    )
    assert [row.accuracy for row in again] == [row.accuracy for row in first]
    (file,) = (tmp_path / "out/answers").glob("grid_0.25_left-*.jsonl")
    lines = file.read_text().splitlines()
    assert len(lines) == 7
    file.write_text("\n".join(lines[:4]) + "\n" + lines[4][:30])  # killed in the middle of a line
    asked.clear()
    evaluate(methods=methods, **settings)
    assert [name for name, ids in asked if len(ids) > 1] == ["Grid", "Grid"], (
        "two of three batches are done again"
    )
    assert file.read_text().splitlines() == lines
    asked.clear()
    # Another method of the same name.
    evaluate(methods={"grid": Random(), "inner": Inner()}, **settings)
    assert [name for name, ids in asked if len(ids) > 1] == ["Random"] * 3
    assert file.read_text().splitlines() == lines, "answers of the first stay"


def test_what_cannot_act_is_named_and_the_rest_comes(settings, tmp_path, capsys):
    class NeedsMore(asymvlm.Method):
        layer = 9

        def score(self, tokens):
            return tokens.grid[:, 2].float()

    rows = evaluate(
        methods={"grid": Grid(), "deep": NeedsMore(), "absent": Learned("nowhere/at/all")},
        **settings,
    )
    assert {row.method for row in rows} == {"grid"}
    assert (
        "absent @ 0.25: left out, nowhere/at/all: no such directory"
        in (tmp_path / "out/table.md").read_text()
    )
    assert (
        "deep @ 0.25: left out, layer: NeedsMore acts before layers [9]"
        in (tmp_path / "out/table.md").read_text()
    )
    assert {one["method"] for one in json.loads((tmp_path / "out/latency.json").read_text())} == {
        "grid"
    }
    with pytest.raises(ValueError, match=r"none can act here\. deep @ 0\.25"):
        evaluate(methods={"deep": NeedsMore()}, **settings)


def test_what_is_unlike_its_authors_form_is_named(settings, tmp_path, capsys):
    as_asked = PruMergePlus(before_projector=False)
    evaluate(methods={"grid": Grid(), "plus": as_asked, "default": PruMergePlus()}, **settings)
    table, printed = (tmp_path / "out/table.md").read_text(), capsys.readouterr().out
    for name, method in (("plus", as_asked), ("default", PruMergePlus())):
        note = f"{name}: unlike its authors' form, {'; '.join(method.deviations)}\n"
        assert note in table and f"{name}: unlike its authors' form" in printed
    assert "fused behind the projector (published" in table and "grid: unlike" not in table


def test_metrics_are_chosen_and_refused(settings):
    rows = evaluate(methods={"grid": Grid()}, metric="anls", **settings)
    assert 0 <= rows[0].accuracy <= 1
    with pytest.raises(ValueError, match="metric: 'bleu' is not one of anls"):
        evaluate(methods={"grid": Grid()}, metric="bleu", **settings)
    with pytest.raises(ValueError, match="vqa_accuracy"):
        evaluate(methods={"grid": Grid()}, metric="vqa_accuracy", **settings)


def test_equal_cost_by_hand(llava):
    """Two layers, one sees all 100: an average of 60 leaves 20 in the second.

    An average of 50 or less leaves nothing.
    """
    fair = at_equal_cost(Inner(), "layer_average", llava.config, 10)
    assert fair.stages(60, 100, 2) == {1: 20}
    with pytest.raises(ValueError, match="give a higher keep"):
        fair.stages(50, 100, 2)
    assert at_equal_cost(Inner(), "left", llava.config, 10).stages(60, 100, 2) == {1: 60}
    before = Grid()
    assert at_equal_cost(before, "flops", llava.config, 10) is before
    plan = at_equal_cost(Inner(), "flops", llava.config, 10).stages(60, 100, 2)
    most = llm_macs(llava.config, 60, 10)
    assert (
        llm_macs(llava.config, seen_by_layer(plan, 100, 2), 10)
        <= most
        < llm_macs(llava.config, seen_by_layer({1: plan[1] + 1}, 100, 2), 10)
    )


def test_equal_cost_in_a_run(settings):
    rows = evaluate(
        methods={"grid": Grid(), "inner": Inner()},
        equal="layer_average",
        **{**settings, "keeps": [0.6]},
    )
    shares = {row.method: row for row in rows if row.task == "all"}
    assert shares["inner"].layer_average == pytest.approx(shares["grid"].layer_average, abs=0.01)
    assert shares["inner"].keep_mean == pytest.approx(0.2, abs=0.01)
    assert shares["inner"].kv_entries == pytest.approx(shares["grid"].kv_entries, rel=0.01)


def test_pictures_that_the_tower_sees():
    tiles = torch.zeros(3, 4, 3, 2, 2)  # three pictures of up to four tiles, two samples
    for picture, count in enumerate((4, 2, 3)):
        tiles[picture, :count] = 1
    assert pictures_of({"pixel_values": tiles}, [1, 2]) == [4, 5]
    assert pictures_of({"pixel_values": torch.ones(3, 3, 8, 8)}, [1, 2]) == [1, 2]
    grids = torch.tensor([[1, 2, 2], [1, 4, 4], [1, 2, 4]])
    assert pictures_of({"image_grid_thw": grids}, [1, 2]) == [[[1, 2, 2]], [[1, 4, 4], [1, 2, 4]]]


def test_wandb_gets_tables_and_pictures(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    evaluate(methods={"grid": Grid()}, wandb_project="asymvlm", **settings)
    wandb.teardown()  # its service would also serve the processes that other tests start, and kill
    runs = list((tmp_path / "out/wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert {path.name.split("_")[0] for path in runs[0].glob("files/media/images/*.png")} >= {
        "pareto",
        "examples",
    }


def test_robustness_has_a_point_for_everything(settings, tmp_path):
    given = {
        name: settings[name]
        for name in ("teacher", "scorer", "data", "pages", "batch_size", "output")
    }
    points = robustness(
        methods={"grid": Grid()},
        keep=0.25,
        corruptions=["low_contrast", "typos"],
        severities=[5],
        **given,
    )
    assert {(one.method, one.corruption, one.severity) for one in points} == {
        (method, name, severity)
        for method in ("dense", "grid")
        for name in ("low_contrast", "typos")
        for severity in (0, 5)
    }
    assert (tmp_path / "out/robustness.png").stat().st_size > 500
    files = {path.name for path in (tmp_path / "out/answers").iterdir()}
    assert len(files) == 2 * 3, "what is not spoilt is asked once"
    with pytest.raises(ValueError, match="corruptions: 'fog' is not one of gaussian_noise"):
        robustness(methods={"grid": Grid()}, corruptions=["fog"], **given)


def test_atp_without_a_cls_model_is_named(folder):
    """ATP with a CLIP of another width says whose fault it is, before anything runs."""
    teacher = Teacher.load(str(folder / "teacher"))
    assert teacher.model.config.vision_config.hidden_size != 16
    with pytest.raises(ValueError, match=r"alpha 0\.5 needs the CLIP"):
        ATP()
