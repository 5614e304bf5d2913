"""Flags that messages name are flags of the commands."""

from __future__ import annotations

import ast
import re

import pytest
import yaml
from support import ROOT

from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train

TRAININGS = ("tiny", "tiny-stage2", "stage2/lora", "any", "teacher/tiny")
# A class's own, as Lightning's parser nests them.
NESTING = ("init_args", "class_path")
DOTTED = re.compile(r"(?<![\w./-])(?:--)?((?:model|data|trainer)(?:\.[a-z_]+)+)(?![\w(/])")
# Of Python, and a file.
NO_FLAGS = {"data.observer", "model.module", "model.safetensors"}


def keys_of(settings, above=""):
    """Dotted names of all settings, without the parser's own nesting."""
    found = set()
    for name, value in settings.items() if isinstance(settings, dict) else ():
        key = above if name in NESTING else f"{above}.{name}".lstrip(".")
        found |= {key} | keys_of(value, key)
    return found


@pytest.fixture(scope="module")
def flags():
    """All settings of trainings and of an evaluation."""
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout.write", printed.append)
        for config in TRAININGS:
            printed.append("\0")
            assert train(["--config", config, "--print_config"]) == 0
        printed.append("\0")
        assert evaluate(["--config", "eval/quick", "--print_config"]) == 0
    found = set()
    for document in "".join(printed).split("\0")[1:]:
        found |= keys_of(yaml.safe_load(document))
    return found


def messages():
    """File, line and text of every string of the sources that is no docstring."""
    for file in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in alone:
                yield file.relative_to(ROOT), node.lineno, text


def test_dotted_flags_exist(flags):
    named = [
        (key, str(file), line)
        for file, line, text in messages()
        for key in DOTTED.findall(text)
        # A name that goes on behind it is the beginning of a flag.
        if key not in NO_FLAGS and not key.endswith("_")
    ]
    assert len(named) > 20
    unknown = [item for item in named if item[0] not in flags]
    assert unknown == []
