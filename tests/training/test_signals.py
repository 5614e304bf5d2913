"""SIGTERM and SIGINT at every stage: exit codes, one line, nothing half made, and no rank left."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import ROOT, child_environment
from support import SMALL as SMALL_CONFIG
from support.scorer_runs import same, weights

from asymvlm.cli.command import run_command
from asymvlm.cli.signals import Stopped
from asymvlm.evaluation.main import main as evaluate
from asymvlm.training.main import main as train

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's and jsonargparse's own


CONFIG = ["--config", str(ROOT / "configs/tiny.yaml"), "--config", str(SMALL_CONFIG)]
TABLE = "asymvlm.training.callbacks.ResultsTable"

# What is under way when the signal comes, by the function that it comes in.
STAGES = {
    "pages": "asymvlm.documents.world.generated.page_row",
    "targets": "asymvlm.distillation.teacher.Teacher.observe",
    "training": "asymvlm.training.distill_module.ImportanceModule.training_step",
    "checkpoint": "torch.save",
    "export": "asymvlm.checkpoint.scorer.save_file",
    "results table": "asymvlm.evaluation.answer_cache.answer",
}


def holder_of(dotted):
    """The object that holds what a dotted name stands for, and its name in there."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            holder = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:-1]:
            holder = getattr(holder, part)
        return holder, parts[-1]
    raise AssertionError(dotted)


@pytest.fixture
def signal_in(monkeypatch):
    """Has the process get a signal at the n-th call of a function, behind its work."""

    def arrange(dotted, signum, call=1):
        holder, name = holder_of(dotted)
        original, calls = getattr(holder, name), []

        def signalled(*args, **kwargs):
            made = original(*args, **kwargs)
            calls.append(name)
            if len(calls) == call:
                os.kill(os.getpid(), signum)
                time.sleep(0.01)
            return made

        patch = pytest.MonkeyPatch()
        patch.setattr(holder, name, signalled)
        return patch

    return arrange


@pytest.fixture
def command(teacher, tmp_path, monkeypatch):
    """train.py's command in a folder of its own, with a table of two pages at its end."""
    (tmp_path / "quick.yaml").write_text("keeps: [0.25]\nlatency_batches: [1]\npages: 2\n")

    def run(folder, *flags):
        monkeypatch.chdir(tmp_path)
        where = ["--model.teacher", str(teacher), "--data.root", f"{folder}-data"]
        where += ["--trainer.default_root_dir", folder, "--trainer.logger", "false"]
        table = [f"--trainer.callbacks+={TABLE}", "--trainer.callbacks.config", "quick.yaml"]
        return train([*CONFIG, *where, *table, *flags])

    return run


@pytest.fixture(scope="module")
def reference():
    return {}


SLOW = [pytest.param(name, signal.SIGINT, marks=pytest.mark.slow) for name in STAGES]


@pytest.mark.parametrize(
    ("stage", "signum"),
    [*((name, signal.SIGTERM) for name in STAGES), ("training", signal.SIGINT), *SLOW],
)
def test_every_stage_ends_with_the_signal_s_code(
    command, signal_in, reference, capsys, tmp_path, stage, signum
):
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    patch = signal_in(STAGES[stage], signum)
    assert command("out") == 128 + signum
    patch.undo()
    said = capsys.readouterr().err
    assert said.count("stopped by ") == 1 and f"stopped by {signum.name}: " in said
    assert "Traceback" not in said and threading.active_count() < 20
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    drafts = [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert drafts == []
    resume = ["--ckpt_path", "last"] if (tmp_path / "out/last.ckpt").is_file() else []
    assert resume == [] or "--ckpt_path out/last.ckpt" in said
    assert command("out", *resume) == 0
    if not reference:
        assert command("whole") == 0
        reference |= weights(tmp_path / "whole")
    assert same(weights(tmp_path / "out"), reference)


def test_an_interrupted_evaluation_goes_on(teacher, signal_in, capsys, tmp_path, monkeypatch):
    """15 questions in batches of 5: of the dense model's three batches, one is done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(
        f"teacher: {teacher}\nscorer: null\nkeeps: [0.25]\nlatency_batches: [1]\npages: 3\n"
        "batch_size: 5\nmethods: {grid: {class_path: asymvlm.methods.grid.Grid}}\n"
    )
    patch = signal_in("asymvlm.evaluation.answer_cache.answer", signal.SIGTERM, call=2)
    assert evaluate(["--config", "grid.yaml"]) == 143
    patch.undo()
    said = capsys.readouterr()
    assert "stopped by SIGTERM: " in said.err and "results: " not in said.out
    module = importlib.import_module("asymvlm.evaluation.answer_cache")
    answered, answer = [], module.answer

    def counted(teacher, batch, method, *args):
        answered.append(method is None)
        return answer(teacher, batch, method, *args)

    monkeypatch.setattr(module, "answer", counted)
    assert evaluate(["--config", "grid.yaml"]) == 0
    assert answered == [True] * 2 + [False] * 3


def test_a_signal_that_an_error_covers_is_still_one(capsys):
    def closes_badly(arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            raise OSError("cannot be closed")

    assert run_command(closes_badly, []) == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_no_library_takes_it_for_an_error():
    assert not issubclass(Stopped, Exception)


def test_outside_the_main_thread_commands_run(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run_command(lambda arguments: None, [])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.fixture
def start(teacher, data_root, tmp_path):
    """train.py as a process, with epochs enough never to end."""

    def run(folder, *flags):
        command = [sys.executable, str(ROOT / "train.py"), *CONFIG, "--trainer.max_epochs", "9999"]
        command += ["--model.teacher", str(teacher), "--data.root", str(data_root)]
        command += ["--trainer.default_root_dir", folder, *flags]
        environment = child_environment(WANDB_SILENT="true")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, start_new_session=True, **pipes
        )
        until = time.time() + 240
        while not (tmp_path / folder / "last.ckpt").is_file() and time.time() < until:
            assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.02)
        return process

    return run


def ranks_of(process):
    """Process ids of the other ranks: its children that run the same command."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("to", [pytest.param("rank 0", marks=pytest.mark.slow), "rank 1"])
def test_sigterm_ends_all_ranks(start, to):
    flags = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    process = start("ddp", *flags)
    (other,) = ranks_of(process)
    os.kill(process.pid if to == "rank 0" else other, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said[-3000:]
    assert "stopped by SIGTERM: go on behind the last epoch" in said
    until = time.time() + 20
    while is_alive(other) and time.time() < until:
        time.sleep(0.05)
    assert not is_alive(other)
