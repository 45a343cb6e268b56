"""Rehearse a study: its whole workflow, from download to report, with small stand-ins for data and models on a CPU.

Further options are Snakemake's.
"""

import argparse
from pathlib import Path

from frugal.config.study import read_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import run_script
from frugal.files import write_text
from frugal.rehearsal.record import markdown, summary
from frugal.rehearsal.run import run_rehearsal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--cores", default="all")
    args, options = parser.parse_known_args()
    study = read_study(args.configfile)
    outcome = run_rehearsal(study, read_yaml(args.configfile), args.cores, options)
    record = Path("results") / outcome.rehearsal.name / "rehearsal.md"
    write_text(record, markdown(outcome, study, args.configfile))
    print(summary(outcome, study, args.configfile))
    print(record)
    return outcome.code


if __name__ == "__main__":
    run_script(main)
