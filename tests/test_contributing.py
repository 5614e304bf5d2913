"""CONTRIBUTING's files and lines, put into a copy of the repository, and its commands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### An? ([\w ]+)\n(.*?)(?=^### |\Z)", PAGE, re.S | re.M))
# In one process, as each would import the same for seconds.
RUN = """
import json, sys, time
import pytest
from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train

QUIET = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # more is imported than by pytest
ENTRIES = {
    "train.py": train,
    "eval.py": evaluate,
    "-m": lambda words: pytest.main([*words[1:], *QUIET]),
}
for entry, *words in json.loads(sys.argv[1]):
    started = time.monotonic()
    code = int(ENTRIES[entry](words))
    print(f"$ {time.monotonic() - started:.1f} s", entry, *words, flush=True)
    assert code == 0, (entry, words, code)
"""


def file_of(text):
    """Path and text of the file that a section shows."""
    about, body = re.findall(r"(.*?)```python\n(.*?)```", text, re.S)[0]
    return re.findall(r"`(src/asymvlm/[\w/]+\.py)`", about)[-1], body


def rows_of(text):
    """Path, old and new lines of every change that a section shows."""
    for before, diff in re.findall(r"(.*?)```diff\n(.*?)```", text, re.S):
        path = re.findall(r"`(\w+/[\w/.-]+)`", before.rstrip().rpartition("\n\n")[2])[0]
        for hunk in diff.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] != "+")
            yield path, old, "".join(line[1:] for line in lines if line[0] != "-")


def commands_of(text):
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.S)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository as git has it, with all that the page adds."""
    copy = tmp_path_factory.mktemp("copy") / "repository"
    copy.mkdir()
    for name in ("src", "tests", "configs", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "train.py", "eval.py"):
        shutil.copy(ROOT / name, copy)
    (copy / "checkpoints").mkdir()
    (copy / "checkpoints/tiny-teacher").symlink_to(ROOT / "checkpoints/tiny-teacher")
    return copy


def test_each_section_has_a_file_its_rows_and_commands():
    assert list(SECTIONS) == [
        "method",
        "scorer",
        "objective",
        "target",
        "eviction policy",
        "family",
    ]
    for name, text in SECTIONS.items():
        assert file_of(text) and commands_of(text), name
        assert len(list(rows_of(text))) >= text.count("```diff") > 0, name


def test_the_page_is_followed(copy):
    commands = []
    for text in SECTIONS.values():
        path, body = file_of(text)
        assert not (copy / path).exists()
        (copy / path).write_text(body)
        for place, old, new in rows_of(text):
            before = (copy / place).read_text()
            assert before.count(old) == 1, (place, old)
            (copy / place).write_text(before.replace(old, new))
        commands += [words[1:] for words in commands_of(text)]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count(" passed") == sum(words[0] == "-m" for words in commands)
    lint = [sys.executable, "-m", "ruff", "check", "."]
    assert subprocess.run(lint, cwd=copy, check=False).returncode == 0
