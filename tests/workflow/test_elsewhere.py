"""The workflow in another working directory, and as a module of another one; the environment is not activated."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow
SNAKEMAKE = (str(Path(sys.executable).parent / "snakemake"), "--cores", "2")
RAW = "data/raw/climate-chapters"  # from a folder of the repository
STUDY = "results/smoke/study.yaml"


def run(folder: Path, *arguments: str, **variables: str) -> str:
    """Snakemake by its path, without Python's programs on the path."""
    variables |= {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    result = subprocess.run([*SNAKEMAKE, *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_another_directory(checkout, tmp_path):
    folder = tmp_path / "on a large disk"
    study = ("--configfile", "config/smoke.yaml", "--directory", str(folder))
    run(checkout.folder, *study, "--", RAW, STUDY)
    assert (folder / RAW / "source.json").exists()
    config = shlex.quote(str(checkout.folder / "config/smoke.yaml"))
    assert f"options: --configfile {config}\n" in (folder / STUDY).read_text()
    # And from where the Snakefile is not.
    study = ("--snakefile", "../Snakefile", "--configfile", "../config/smoke.yaml", *study[2:])
    assert "Nothing to be done" in run(checkout.folder / "docs", *study, "-n", "--", RAW, STUDY)


def test_without_a_study_the_laptop_study_or_the_directorys_own_runs(checkout, tmp_path):
    here = ("-n", "--directory", str(tmp_path), "--", "describe_study")
    assert "results/laptop/study.yaml" in run(checkout.folder, *here)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text((checkout.folder / "config/smoke.yaml").read_text())
    assert STUDY in run(checkout.folder, *here)


def module(folder: Path, checkout, snakefile: str) -> None:
    """A workflow that uses this one's rules, for two files."""
    (folder / "study.yaml").write_text((checkout.folder / "config/smoke.yaml").read_text())
    (folder / "Snakefile").write_text(
        f'configfile: "study.yaml"\nmodule frugal:\n    snakefile: {snakefile}\n    config: config\n'
        "use rule * from frugal as frugal_*\n"
        f'rule mine:\n    default_target: True\n    input: "{RAW}", "{STUDY}"\n'
    )


def test_a_module(checkout, tmp_path):
    module(tmp_path, checkout, f'"{checkout.folder}/Snakefile"')
    run(tmp_path)
    assert (tmp_path / RAW / "source.json").exists()
    assert "options: --configfile study.yaml\n" in (tmp_path / STUDY).read_text()


def test_a_module_of_a_repository(checkout, tmp_path):
    """As snakedeploy writes it; the address leads to a folder here."""
    repository = tmp_path / "github/me/frugal"
    repository.parent.mkdir(parents=True)
    where = (f"--git-dir={repository}", f"--work-tree={checkout.folder}")
    git = ("git", *where, "-c", "user.name=a", "-c", "user.email=b")
    for command in (("init", "-q"), ("add", "--all"), ("commit", "-q", "-m", "all"), ("tag", "v1")):
        subprocess.run([*git, *command], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
    module(tmp_path, checkout, 'github("me/frugal", path="workflow/Snakefile", tag="v1")')
    address = {"GIT_CONFIG_KEY_0": f"url.{tmp_path}/github/.insteadOf", "GIT_CONFIG_VALUE_0": "https://github.com/"}
    run(tmp_path, GIT_CONFIG_COUNT="1", **address)
    assert (tmp_path / RAW / "source.json").exists()
    assert (tmp_path / ".snakemake/frugal/workflow/commit.txt").read_text() == head
