"""Write what each stage of dvc.yaml depends on of the code: hashes that neither comments nor renames change."""

import argparse
from pathlib import Path

from frugal.config.study import read_study
from frugal.errors import run_script
from frugal.files import write_json
from frugal.versioning.code import stage_code
from frugal.versioning.stages import RULES, VersionedStudy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", required=True, type=Path, help="the study's configuration")
    args = parser.parse_args()
    study = VersionedStudy(read_study(args.configfile))
    for stage in RULES:
        write_json(study.code_file(stage), stage_code(study, stage))


if __name__ == "__main__":
    run_script(main)
