"""What needs no module comes at once, and signals end a command while its modules are imported."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import ROOT, child_environment

from asymvlm.cli.commands import COMMANDS
from asymvlm.cli.door import enter, main

SCRIPT = [str(Path(sys.executable).parent / "asymvlm")]
MODULE = [sys.executable, "-m"]
FORMS = {
    "script": [*SCRIPT, "train"],
    "module": [*MODULE, "asymvlm", "eval"],
    "train.py": [sys.executable, str(ROOT / "train.py")],
    "eval.py": [sys.executable, str(ROOT / "eval.py")],
    "robustness": [*MODULE, "asymvlm.evaluation.robustness"],
    "fit_eviction": [*MODULE, "asymvlm.training.fit_eviction"],
    "similarity_sign": [*MODULE, "asymvlm.evaluation.similarity_sign", "--clip", "x"],
    "contact_sheet": [*MODULE, "asymvlm.evaluation.contact_sheet", "sheet.png"],
    "export": [*MODULE, "asymvlm.export", "best.ckpt", "scorer"],
    "check": [*SCRIPT, "check", "scorer"],
}
HEAVY = ("torch", "datasets", "numpy", "lightning", "transformers", "jsonargparse", "matplotlib")


def environment(folder, body):
    """An environment in which imports of what is heavy run `body`."""
    for name in HEAVY:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(body)
    return child_environment(PYTHONPATH=f"{folder}:{ROOT / 'src'}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", FORMS)
def test_a_signal_during_imports_is_one_line(form, signum, tmp_path):
    heavy = tmp_path / "heavy"
    heavy.mkdir()
    sign = tmp_path / "importing"
    slow = f"import pathlib, time\npathlib.Path({str(sign)!r}).touch()\ntime.sleep(60)\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(
        FORMS[form], env=environment(heavy, slow), cwd=tmp_path, start_new_session=True, **pipes
    )
    until = time.time() + 30
    while not sign.exists() and process.poll() is None and time.time() < until:
        time.sleep(0.02)
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signum, err
    assert err.startswith(f"stopped by {signum.name}: run the same command again")
    assert err.count("\n") == 1 and not out


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("form", FORMS)
def test_help_imports_nothing_and_fits_a_screen(form, flag, tmp_path):
    heavy = tmp_path / "heavy"
    heavy.mkdir()
    done = subprocess.run(
        [*FORMS[form], flag],
        env=environment(heavy, "raise SystemExit('imported')"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("usage: asymvlm ") and 4 <= len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert sorted(tmp_path.iterdir()) == [heavy]


def said(capsys, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["asymvlm", *arguments])
    code = main()
    return code, *capsys.readouterr()


def test_the_help_names_every_command(capsys, monkeypatch):
    code, out, _ = said(capsys, monkeypatch)
    assert code == 0 and len(out.splitlines()) <= 24
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_module_is_there(name):
    """They are named as text, so that nothing is imported."""
    assert callable(importlib.import_module(COMMANDS[name].module).main)


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["trian"], "'trian' is no command; those are train, eval, robustness, "),
        (["trian"], "; did you mean train?"),
        (["--bogus"], "'--bogus' is no command"),
        (["check", "--bogus"], "check: there is no option --bogus; usage: asymvlm check DIRECTORY"),
        (["check", ""], "check: an empty name is given; usage: asymvlm check DIRECTORY"),
        (["check"], "check: 0 arguments are given instead of 1; usage: asymvlm check DIRECTORY"),
        (["check", "a", "b"], "check: 2 arguments are given"),
        (["export"], "export: 0 arguments are given instead of 2; usage: asymvlm export "),
        (["export", "a"], "export: 1 arguments are given"),
        (["contact-sheet", "--pages"], "contact-sheet: there is no option --pages"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, says, capsys, monkeypatch):
    code, out, err = said(capsys, monkeypatch, *arguments)
    assert code == 2 and not out
    assert err.startswith("error: ") and says in err and err.count("\n") == 1


def test_a_picture_s_name_is_checked_before_it_is_drawn(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asymvlm.evaluation.contact_sheet.contact_sheet", None)
    assert enter("contact-sheet", ["sheet"]) == 2
    assert capsys.readouterr().err == "error: sheet is no name of a picture; end it with .png\n"


def test_handlers_are_back_behind_a_command(tmp_path, capsys):
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    assert enter("check", [str(tmp_path)]) == 1
    capsys.readouterr()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_help_all_is_the_parser_s_own_help(monkeypatch):
    given = []
    module = SimpleNamespace(main=lambda arguments, owns_process: given.append(arguments) or 0)
    monkeypatch.setattr("asymvlm.cli.door.importlib.import_module", lambda name: module)
    assert enter("train", ["--help_all", "--config", "tiny"]) == 0
    assert given == [["--help", "--config", "tiny"]]


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name].takes_flags])
def test_all_settings_are_listed_under_the_command_s_name(name, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["__main__.py"])
        assert enter(name, ["--help_all"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: asymvlm {name} ") and "command line tool" not in out
    assert out.count("\n") > 20
