"""The commit of the workflow's own code."""

import os
import re
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[4]
#: `git archive`, and so a downloaded ZIP, replaces its content by the commit (.gitattributes).
ARCHIVED = "workflow/commit.txt"
#: Made by every run with DVC; it holds no code.
NO_CODE = ("dvc.lock",)
#: Where code lies that runs without being known to git. Studies of the user's own lie in config/.
CODE = ("Snakefile", "rules", "workflow")


def workflow_commit(project: Path = PROJECT) -> str:
    """The commit of the working tree, with ``+changes`` where its files differ from it.

    Of an unpacked archive, ``<commit>+archive``, or ``archive`` where that does not hold its commit; ``unknown`` where
    git does not answer. Neither a repository around the project nor an environment variable of git's has a say, and it
    does not matter to whom the files belong.
    """
    if not (project / ".git").exists():
        archived = project / ARCHIVED
        commit = archived.read_text(encoding="utf-8").strip() if archived.exists() else ""
        return f"{commit}+archive" if re.fullmatch("[0-9a-f]{40,64}", commit) else "archive"
    try:
        commit = git(project, "rev-parse", "HEAD")
        unlike = [f":(exclude){name}" for name in NO_CODE]
        changed = git(project, "status", "--porcelain", "--untracked-files=no", "--", ".", *unlike)
        new = git(project, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed or new else "")


def git(project: Path, *arguments: str) -> str:
    """What git says of the project's own repository, named, so that it does not look for one or for its owner.

    The owner may be another user: no program that the repository names (a file system monitor) is run.

    Raises:
        subprocess.CalledProcessError: git refuses.
    """
    settings = ("-c", "core.fsmonitor=false", "-c", "core.fileMode=false", "--no-optional-locks")
    where = (f"--git-dir={project / '.git'}", f"--work-tree={project}")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *settings, *where, *arguments]
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()
