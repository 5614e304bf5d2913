"""eval.py end to end on a small random teacher."""

from __future__ import annotations

import json

import pytest

from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.evaluation.main import main
from asymvlm.scorers import BudgetHead, scorers

METHODS = """
methods:
  random: Random
  cls_attention: {class_path: ClsAttention}
  oracle_answer_rows: {class_path: TeacherAttention, init_args: {rows: answer}}
  oracle_evidence: Evidence
"""
SMALL = ["--config", "small.yaml", "--teacher", "teacher", "--scorer", "scorer"]
SMALL += ["--output", "out", "--pages", "3", "--latency_batches", "[1]"]
CONTRACT = {
    "method",
    "keep_requested",
    "keep_mean",
    "keep_p95",
    "task",
    "n",
    "accuracy",
    "dense_accuracy",
    "agreement",
    "evidence_recall",
    "macs_prefill",
    "macs_prefill_dense",
    "flops_saved",
    "prefill_ms",
    "dense_prefill_ms",
}


@pytest.fixture(scope="module")
def folder(llava, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    (folder / "small.yaml").write_text(METHODS)
    llava.save_pretrained(folder / "teacher")
    processor.save_pretrained(folder / "teacher")
    save_scorer(
        TrainedScorer(scorers()["low_rank"](40), BudgetHead(40), (0, 1, 2, 3)),
        folder / "scorer",
        "card",
    )
    return folder


# jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
def test_table_results_and_pictures(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main([*SMALL, "--keeps", "[0.25, 1.0, auto]"]) == 0, capsys.readouterr().err
    rows = json.loads((folder / "out" / "results.json").read_text())
    assert all(row.keys() >= CONTRACT for row in rows)
    methods = {row["method"] for row in rows}
    assert methods == {
        "learned",
        "random",
        "cls_attention",
        "oracle_answer_rows",
        "oracle_evidence",
    }
    assert {row["method"] for row in rows if row["keep_requested"] == "auto"} == {"learned"}
    for row in rows:
        assert 0 < row["keep_mean"] <= row["keep_p95"] <= 1 and row["macs_prefill"] > 0
        if row["keep_requested"] == 1.0 and row["method"] != "oracle_answer_rows":
            assert (
                row["agreement"] == 1
                and row["accuracy"] == row["dense_accuracy"]
                and row["llm_flops_saved"] == 0
            )
        if row["keep_requested"] == 0.25:
            assert row["keep_mean"] == 0.25 and row["llm_flops_saved"] > 0.5
        if row["method"] == "oracle_evidence":
            assert row["evidence_recall"] > 0.99
        if row["method"].startswith("oracle_answer"):
            assert row["macs_method"] > row["macs_llm_dense"], (
                "an oracle that runs the LLM pays for it"
            )
    groups = {row["task"] for row in rows if "/" not in row["task"]}
    assert groups == {"localised", "holistic", "all"} and any(
        row["task"].startswith("localised/") for row in rows
    )
    for name in (
        "table.md",
        "table.tex",
        "table.csv",
        "latency.json",
        "pareto.png",
        "examples.png",
        "heat_maps.png",
    ):
        assert (folder / "out" / name).stat().st_size > 500


@pytest.mark.filterwarnings("default")  # jsonargparse's own, as a user would see them
@pytest.mark.parametrize(
    "flags,code,says",
    [
        (["--keeps", "[1.5]"], 2, "keeps: 1.5 is not accepted"),
        (["--keeps", "[0]"], 2, "keeps: 0 is not accepted"),
        (["--scorer", "/nowhere"], 1, "/nowhere: no such directory"),
        (["--teacher", "/nowhere"], 1, "teacher: /nowhere"),
        (["--path", "/nowhere"], 1, "/nowhere"),
        (["--pagse", "3"], 2, "pagse"),
    ],
)
def test_bad_input_is_one_message(folder, monkeypatch, capsys, flags, code, says):
    monkeypatch.chdir(folder)
    assert main([*SMALL, *flags]) == code
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
