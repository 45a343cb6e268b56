"""Write the container recipe: Snakemake's own, of all conda environments that the full study uses."""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from frugal.errors import FrugalError, run_script
from frugal.files import write_text

HEADER = """\
# The conda environments of all rules, as one image. Made by `make container` from envs/, through Snakemake
# (`snakemake --configfile config/full.yaml --containerize`); do not edit. The workflow is not in it: it is mounted.
# With the image built and pushed, every job runs in it by `--sdm conda apptainer --apptainer-args --nv` and the line
#     containerized: "docker://<registry>/<image>"
# at the top of the Snakefile.
"""
#: Snakemake asks for conda's version, priority and platform only, so that no conda need be installed.
CONDA = """\
#!/bin/sh
case "$*" in
    --version) echo conda 99.9.9 ;;
    "info --json") echo '{"conda_prefix": "/opt/conda", "platform": "linux-64"}' ;;
    *) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""


def recipe(study: Path) -> str:
    """The recipe for the environments of a study, and of the rules that it does not need.

    Raises:
        FrugalError: Snakemake refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "conda"
        program.write_text(CONDA, encoding="utf-8")
        program.chmod(0o755)
        result = subprocess.run(
            ["snakemake", "--configfile", str(study), "--containerize"],
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        )
    if result.returncode:
        raise FrugalError(f"snakemake --containerize: {result.stderr.strip()}")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    return HEADER + "\n".join(lines[lines.index("FROM condaforge/miniforge3:latest") :]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config/full.yaml"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    write_text(args.output, recipe(args.configfile))


if __name__ == "__main__":
    run_script(main)
