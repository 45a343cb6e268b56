"""Run one stage of dvc.yaml by Snakemake, with only that stage's rules allowed; further options are Snakemake's."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from frugal.config.study import read_study
from frugal.errors import FrugalError, run_script
from frugal.run.interruption import Terminated
from frugal.run.programs import environment
from frugal.versioning.jobs import record_jobs, restore_jobs
from frugal.versioning.overview import write_overview
from frugal.versioning.stages import REPORT_JOBS, RULES, VersionedStudy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=list(RULES))
    parser.add_argument("--study", required=True, help="its name, as dvc.yaml has it")
    parser.add_argument("--configfile", required=True, type=Path, help="the study's configuration")
    parser.add_argument("--cores", default="all")
    parser.add_argument(
        "--pull", action="store_true", help="of `report`: first bring what it needs from the DVC remote"
    )
    args, options = parser.parse_known_args()
    if args.pull and args.stage != "report":
        parser.error("--pull brings what the stage `report` needs; for the others there is `dvc pull`")
    study = VersionedStudy(read_study(args.configfile))
    if study.study.name != args.study:
        raise FrugalError(
            f"{args.configfile} is the study '{study.study.name}', and '{args.study}' is wanted (dvc.yaml: vars)"
        )
    if args.pull:
        pull(study)
    for stage in ("data", "train"):
        restore_jobs(study.jobs_file(stage))
    if args.stage == "report":
        study.check_models()
        study.check_results()
        options += ["--forcerun", *REPORT_JOBS]
    command = [sys.executable, "-m", "snakemake", "--cores", args.cores, "--configfile", str(args.configfile), *options]
    code = wait_for([*command, "--allowed-rules", *study.rules(args.stage), "--", *study.targets(args.stage)])
    if code:
        return code
    missing = [str(folder) for folder in study.outputs(args.stage) if not folder.exists()]
    if missing:
        names = " ".join(missing)
        raise FrugalError(f"{names}: not here, and nothing had to be made from it; `dvc pull {names}` brings it")
    if args.stage != "report":
        record_jobs(study.jobs_file(args.stage), study.outputs(args.stage))
    if args.stage == "train":
        write_overview(study.results, list(study.study.experiments))
    return 0


def wait_for(command: list[str]) -> int:
    """Run Snakemake; returns its exit code. An interrupt reaches it too, SIGTERM is passed on: it ends its jobs."""
    with subprocess.Popen(command, env=environment()) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
            except Terminated:
                process.terminate()


def dvc(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment(), **options)


def pull(study: VersionedStudy) -> None:
    """Bring everything that the report needs from the DVC remote.

    Raises:
        FrugalError: naming what the remote does not have.
    """
    needed = study.report_needs()
    if dvc("pull", *map(str, needed)).returncode == 0:
        return
    status = dvc("data", "status", "--granular", "--not-in-remote", "--json", capture_output=True, text=True)
    if "not a git repository" in status.stderr:
        raise FrugalError(
            "this folder is not a clone, but perhaps an unpacked archive: `.venv/bin/dvc config --local core.no_scm "
            "true` lets DVC do without git; then run the same command again"
        )
    state = json.loads(status.stdout or "{}")
    lost = set(state.get("not_in_cache", [])) & set(state.get("not_in_remote", []))
    lost = sorted(path for path in lost if any(_overlap(Path(path), start) for start in needed))
    if not lost:
        raise FrugalError("`dvc pull` failed, see above; `vars` in dvc.yaml says which study is versioned")
    remote = dvc("remote", "list", stdout=subprocess.PIPE, text=True).stdout.strip()
    names = "\n  ".join(lost)
    raise FrugalError(
        f"the DVC remote does not have:\n  {names}\nRemotes: {remote or 'none'}\n"
        "`dvc push` where the study was run fills it; `dvc remote modify --local local url <folder>` names another. "
        "Nothing was trained; `make report` trains."
    )


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


if __name__ == "__main__":
    run_script(main)
