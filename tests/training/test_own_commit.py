"""The commit that a scorer's config names is asymvlm's own, or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from support import ROOT

ASK = "from asymvlm.training.own_commit import own_commit as ask; print(ask.__module__, ask())"
OWN = '[project]\nname = "asymvlm"\n'


def git(folder, *arguments):
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


def put(package):
    """A copy of the package, as an installation puts it there."""
    for name in ("__init__.py", "training/__init__.py", "training/own_commit.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "src/asymvlm" / name, package / name)
    return package.parent


def repository(root, *files):
    """A git repository with one commit of some files; returns the commit."""
    git(root, "init", "-q")
    git(root, "add", "-f", *files)
    git(root, "commit", "-q", "-m", "one")
    return git(root, "rev-parse", "HEAD")


def asked(path, **environment):
    given = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=given, cwd=path, capture_output=True, text=True, check=True
    )
    module, said = done.stdout.split()
    assert module == "asymvlm.training.own_commit"
    return said


@pytest.mark.parametrize("name", ["theirs", "asymvlm"])
def test_installed_inside_somebody_s_repository(tmp_path, name):
    """In a virtual environment that their repository ignores, or does not; or even tracks."""
    path = put(tmp_path / "venv/lib/python3/site-packages/asymvlm")
    (tmp_path / "pyproject.toml").write_text(OWN.replace("asymvlm", name))
    repository(tmp_path, "pyproject.toml")
    assert asked(path) == "None"
    (tmp_path / ".gitignore").write_text("venv\n")
    assert asked(path) == "None"
    git(tmp_path, "add", "-f", ".")
    git(tmp_path, "commit", "-q", "-m", "two")
    assert asked(path) == "None"


@pytest.mark.parametrize(
    "project", ['[project]\nname = "theirs"\n', "", "[project", "project = 3", None]
)
def test_a_copy_in_the_same_place_of_another_project(tmp_path, project):
    path = put(tmp_path / "src/asymvlm")
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project)
    repository(tmp_path, ".")
    assert asked(path) == "None"


def test_installed_outside_of_all_repositories(tmp_path):
    path = put(tmp_path / "site-packages/asymvlm")
    assert asked(path) == "None"
    assert asked(path, PATH="") == "None"


def test_its_own_checkout_and_its_changes(tmp_path):
    checkout, other = tmp_path / "checkout", tmp_path / "other"
    path = put(checkout / "src/asymvlm")
    (checkout / "pyproject.toml").write_text(OWN)
    commit = repository(checkout, ".")
    assert asked(path) == commit
    other.mkdir()
    (other / "file").touch()
    repository(other, "file")
    (other / "link").symlink_to(checkout / "src")
    assert asked(other / "link") == commit
    # As within a hook of another repository.
    assert asked(path, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other)) == commit
    (checkout / "src/asymvlm/__init__.py").write_text("")
    assert asked(path) == f"{commit}-dirty"


def test_a_checkout_whose_copy_is_not_tracked(tmp_path):
    path = put(tmp_path / "src/asymvlm")
    (tmp_path / "pyproject.toml").write_text(OWN)
    repository(tmp_path, "pyproject.toml")
    assert asked(path) == "None"
