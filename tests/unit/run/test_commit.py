"""The commit that a result records is that of the workflow's own code."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from frugal.run.commit import ARCHIVED, workflow_commit

REPOSITORY = Path(__file__).parents[3]


def git(folder, *arguments):
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", folder, *names, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path):
    """A project with one commit, in the folder of another repository."""
    project = tmp_path / "outer/project"
    for name in ("Snakefile", "dvc.lock", "workflow/a.py", "config/config.yaml", ".gitignore"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("*.pyc\n")
    for folder in (project.parent, project):
        git(folder, "init", "--quiet")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", folder.name)
    return project


def test_a_clean_tree_and_what_is_no_change_of_code(project):
    commit = git(project, "rev-parse", "HEAD")
    assert workflow_commit(project) == commit
    (project / "dvc.lock").write_text("written by DVC")
    (project / "config/mine.yaml").write_text("a study of the user's own")
    (project / "workflow/a.pyc").write_text("ignored")
    (project / "workflow/a.py").chmod(0o777)
    assert workflow_commit(project) == commit


def test_another_working_tree_of_the_repository(project, tmp_path):
    git(project, "worktree", "add", "--quiet", "--detach", str(tmp_path / "beside"))
    (tmp_path / "beside/Snakefile").write_text("changed")
    assert workflow_commit(tmp_path / "beside") == workflow_commit(project) + "+changes"


@pytest.mark.parametrize("name", ["workflow/a.py", "config/config.yaml", "workflow/new.py"])
def test_changed_and_new_code_is_said(project, name):
    (project / name).write_text("changed")
    assert workflow_commit(project) == git(project, "rev-parse", "HEAD") + "+changes"


def test_variables_and_owners_have_no_say(project, monkeypatch):
    commit = git(project, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(project.parent / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    if os.getuid() == 0:
        for path in (project, *project.rglob("*")):
            os.chown(path, 12345, 12345)
    assert workflow_commit(project) == commit


def test_an_unpacked_archive_in_another_repository(project):
    commit = git(project, "rev-parse", "HEAD")
    (project / ".git").rename(project.parent / "gone")
    assert workflow_commit(project) == "archive"
    (project / ARCHIVED).write_text("$Format:%H$\n")
    assert workflow_commit(project) == "archive"
    (project / ARCHIVED).write_text(commit + "\n")
    assert workflow_commit(project) == f"{commit}+archive"


def test_an_archive_holds_its_commit_and_a_clone_its_line_ends(project, tmp_path):
    """As `git archive` writes it, and so the ZIP that is downloaded; as git on Windows checks out."""
    for name in (".gitattributes", ARCHIVED):
        shutil.copy(REPOSITORY / name, project / name)
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "as here")
    (project / "Snakefile").unlink()
    git(project, "-c", "core.autocrlf=true", "checkout", "Snakefile")
    assert (project / "Snakefile").read_bytes() == b"*.pyc\n"
    git(project, "archive", f"--output={tmp_path}/project.tar", "HEAD")
    shutil.unpack_archive(tmp_path / "project.tar", tmp_path / "unpacked")
    assert workflow_commit(tmp_path / "unpacked") == git(project, "rev-parse", "HEAD") + "+archive"


def test_a_broken_repository_is_unknown(project):
    (project / ".git/HEAD").write_text("")
    assert workflow_commit(project) == "unknown"
