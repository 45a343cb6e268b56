"""What runs that train on GPUs ask of this machine, beside what it has: a table, and an error for what it lacks."""

import argparse
from pathlib import Path

from frugal.config.registry import load_models
from frugal.errors import run_script
from frugal.files import write_text
from frugal.preflight import as_table, demand, gpu_findings, look_at_gpus, trial
from frugal.run.outputs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="*", required=True, type=Path, help="their <experiment>/<variant>/config.yaml")
    parser.add_argument("--table", default="config/models.yaml", help="the file, or its content as JSON")
    parser.add_argument("--models", type=Path, default=Path("data/models"), help="folder of prepared models")
    parser.add_argument("--output", type=Path, help="output: the table, where nothing is lacking")
    args = parser.parse_args()
    runs = {"/".join(path.parts[-3:-1]): load_run(path) for path in args.runs}
    findings = gpu_findings(runs, look_at_gpus(), load_models(args.table), args.models, trial) if runs else []
    table = as_table(findings) if findings else "no run trains on a GPU"
    print(table, flush=True)
    demand(findings)
    if args.output:
        write_text(args.output, table + "\n")


if __name__ == "__main__":
    run_script(main)
