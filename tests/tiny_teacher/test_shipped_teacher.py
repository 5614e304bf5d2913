"""The tiny teacher in checkpoints/ reads, remembers, and needs what pruning takes."""

from __future__ import annotations

import json

import pytest
from support import ROOT

from asymvlm.tiny_teacher.report import reading_report

TEACHER = ROOT / "checkpoints/tiny-teacher"


def bars(report, slack):
    dense, pruned = report["dense"], report["random 12.5 %"]
    assert dense["localised"] >= 0.9 - slack and dense["holistic"] >= 0.8 - slack
    assert dense["localised"] - pruned["localised"] >= 0.4
    talked = [report["dialogues"][group] for group in ("text", "page", "both")]
    assert talked[0] >= 0.85 and sum(talked) / 3 >= 0.85 - slack


def test_its_report_holds_the_bars():
    report = json.loads((TEACHER / "report.json").read_text())
    assert report["pages"] == 200
    bars(report, 0.0)


@pytest.mark.filterwarnings("default")
def test_it_is_the_one_that_the_report_is_about():
    bars(reading_report(str(TEACHER), 12), 0.15)
