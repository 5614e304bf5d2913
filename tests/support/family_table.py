"""A table at the end of the test output: what was proved for which family."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

_COLUMNS = {
    "keep_all": "keep all",
    "dropping": "drop",
    "generation": "generate",
    "further_turn": "turns",
    "gradients": "gradients",
    "targets": "targets",
    "videos": "videos",
    "train_export": "train",
}
_FILES = ("test_families.py", "test_cross_attention_families.py", "test_any_model.py")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome, mark in (("passed", "yes"), ("skipped", "-"), ("failed", "NO"), ("error", "NO")):
        for report in terminalreporter.getreports(outcome):
            found = re.match(
                rf".*(?:{'|'.join(map(re.escape, _FILES))})::(test_\w+)\[(\w+?)(?:-\w+)*\]$",
                report.nodeid,
            )
            column = next(
                (title for part, title in _COLUMNS.items() if found and part in found[1]), None
            )
            if found and column and cells[found[2]].get(column) != "NO":
                cells[found[2]][column] = mark
    if not cells:
        return
    titles = list(_COLUMNS.values())
    terminalreporter.section("families")
    terminalreporter.write_line(f"{'family':<18}" + "".join(f"{title:>11}" for title in titles))
    for family, row in cells.items():
        terminalreporter.write_line(
            f"{family:<18}" + "".join(f"{row.get(title, ''):>11}" for title in titles)
        )
