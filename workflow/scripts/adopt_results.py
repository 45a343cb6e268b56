"""Record a study's results as those of the present code, once both codes have trained the same weights.

After a change that should not change results, such as a renamed function, Snakemake would train everything again. This
trains one short run of each kind, of the smoke study, with the code that made the results and with the present code. If
the weights and predictions of both are equal bit by bit, all results are marked as up to date; else nothing is.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from frugal.config.study import Experiment, Study, read_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, run_script
from frugal.files import read_json
from frugal.run import commit as repository
from frugal.run.commit import workflow_commit
from frugal.run.gpus import AUTO, resolve_gpus
from frugal.run.programs import environment

SMOKE = Path("config/smoke.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--cores", default="all")
    args = parser.parse_args()
    study = read_study(args.configfile)
    present = workflow_commit(Path.cwd())
    if present.endswith("+changes"):
        raise FrugalError("there are changes that are not committed: commit them, so that the results name their code")
    if "archive" in present or present == "unknown":
        raise FrugalError(
            "this folder is no clone: results are adopted where git has both the former and the present code"
        )
    check_settings(study)
    kinds = {one.kind for one in study.experiments.values()}
    runs = short_runs([one for one in read_study(SMOKE).experiments.values() if one.kind in kinds])
    former = former_commits(study) - {present}
    with tempfile.TemporaryDirectory(prefix="adopt-") as folder:
        made = {}
        for commit in (*sorted(former), present) if former else ():
            print(f"training the short runs with the code of {commit[:12]}", file=sys.stderr, flush=True)
            with checked_out(commit, checkout := Path(folder) / commit):
                snakemake(checkout, args.cores, SMOKE, *runs)
                made[commit] = contents(checkout, runs)
        for commit in sorted(former):
            check_equal(made[commit], made[present], commit)
    rewrite_settings(study, args.cores, args.configfile)
    snakemake(Path.cwd(), args.cores, args.configfile, "all", options=["--touch"])
    print(f"the results of '{study.name}' are now those of {present[:12]}", file=sys.stderr)


def check_settings(study: Study) -> None:
    """The results were made with the settings that the study has now; `gpus: auto` may have been a number then."""
    for name, experiment in study.experiments.items():
        for variant, run in experiment.runs.items():
            path = Path("results") / study.name / name / variant / "config.yaml"
            if not path.exists():
                raise FrugalError(f"{path}: not there; adopt results after the study is finished: make report")
            former = experiment.kind.run.model_validate(read_yaml(path))
            gpus = former.training.gpus
            if former not in (run, resolve_gpus(run, 0 if gpus == AUTO else min(gpus, 1))):
                raise FrugalError(f"{path}: other settings than the study's now; only a change of code can be adopted")


def rewrite_settings(study: Study, cores: str, configfile: Path) -> None:
    """Write the settings beside the results, and what the report is made of, anew where the study or the code says it
    in other words."""
    folders = [Path("results") / study.name / name / run for name, one in study.experiments.items() for run in one.runs]
    files = [str(file) for folder in folders for file in (folder / "config.yaml", *folder.glob("settings/*.yaml"))]
    files.append(f"results/{study.name}/study.yaml")
    snakemake(Path.cwd(), cores, configfile, *files, options=["--allowed-rules", "write_run_config", "describe_study"])


def former_commits(study: Study) -> set[str]:
    """The commits whose code made the study's results.

    Raises:
        FrugalError: a result does not name the commit of its code.
    """
    commits = set()
    for name, experiment in study.experiments.items():
        for variant in experiment.runs:
            path = Path("results") / study.name / name / variant / "metrics.json"
            commit = read_json(path)["provenance"]["commit"]
            if commit in ("unknown", "archive") or "+" in commit:
                raise FrugalError(f"{path}: made by code that was not committed ({commit}): it cannot be run again")
            commits.add(commit)
    return commits


def short_runs(experiments: Sequence[Experiment]) -> list[str]:
    """What is trained to compare two codes: the first variant of the first experiment of each kind."""
    first = {experiment.kind: experiment for experiment in reversed(experiments)}
    files = []
    for experiment in first.values():
        variant = experiment.variants[0]
        folder = f"results/smoke/{experiment.name}/{variant}"
        seed = "" if experiment.kind.has_base_model else f"seeds/{experiment.runs[variant].seeds[0]}/"
        predictions = "documents" if experiment.kind.reads == "documents" else "predictions"
        files += [f"{folder}/{seed}{'adapter' if not seed else 'model'}", f"{folder}/{predictions}.parquet"]
    return files


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[None]:
    """A commit's files in ``folder``, with the downloads that are here."""
    git("worktree", "add", "--detach", str(folder), commit)
    try:
        (folder / "data").mkdir(exist_ok=True)
        if Path("data/raw").exists():
            (folder / "data/raw").symlink_to(Path("data/raw").resolve())
        yield
    finally:
        git("worktree", "remove", "--force", str(folder))


def contents(folder: Path, runs: Sequence[str]) -> dict[str, bytes]:
    """File -> bytes of the weights and predictions of ``runs``."""
    paths = [path for run in runs for path in [folder / run, *(folder / run).glob("*.safetensors")] if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def check_equal(former: dict[str, bytes], present: dict[str, bytes], commit: str) -> None:
    """Both codes made the same files, bit by bit."""
    if different := sorted(name for name in former.keys() | present.keys() if former.get(name) != present.get(name)):
        raise FrugalError(
            f"the present code does not train what {commit[:12]} trained; not equal: {', '.join(different)}. Nothing "
            "was adopted: make report trains again"
        )


def snakemake(folder: Path, cores: str, configfile: Path, *targets: str, options: Sequence[str] = ()) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", cores, "--configfile", str(configfile), *options]
    done = subprocess.run([*command, "--", *targets], cwd=folder, env=environment(), check=False)
    if done.returncode:
        raise FrugalError(f"Snakemake failed, see above ({folder}); nothing was adopted")


def git(*arguments: str) -> str:
    try:
        return repository.git(Path.cwd(), *arguments)
    except subprocess.CalledProcessError as error:
        raise FrugalError(f"git {' '.join(arguments)}: {error.stderr.strip()}") from None


if __name__ == "__main__":
    run_script(main)
