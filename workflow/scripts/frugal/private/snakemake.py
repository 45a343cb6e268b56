"""Of Snakemake, read in 9.27.1; it is not imported, because the environments of jobs do not have it.

Without one of the workflow's attributes Snakemake ends before any job.
"""

import logging
import os
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Where Snakemake keeps its notes on outputs and its locks, in `.snakemake`; there is no command or API for either.
#: `snakemake --touch` does not serve: it takes whatever is there for the result of today's code and settings. If these
#: move, results from DVC are made again, and the lock of a killed Snakemake has to be removed by `snakemake --unlock`.
NOTES, LOCKS = "metadata", "locks"


def is_main_process(workflow: Any) -> bool:
    """Whether this is the Snakemake that the user has started, and not the process of a job."""
    return workflow.is_main_process


def runs_jobs_here(workflow: Any) -> bool:
    """Whether jobs run on this machine, and not on a cluster."""
    return workflow.local_exec


def config_files(workflow: Any, folder: Path) -> list[str]:
    """The configuration files: `config` has their contents alone. Those in ``folder`` are named from there."""
    files = [Path(os.path.normpath(folder / file)) for file in workflow.configfiles]
    return [str(file.relative_to(folder) if file.is_relative_to(folder) else file) for file in files]


def given_settings(workflow: Any) -> dict[str, Any]:
    """What `--config` has given; `config` has it among the files' contents."""
    return dict(workflow.config_settings.config)


def uses_conda(workflow: Any) -> bool:
    """Whether jobs run in the environments of envs/ (`--sdm conda`)."""
    return any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)


def deploys_environments(workflow: Any) -> bool:
    """Whether jobs run in environments that Snakemake makes: by conda, in a container, or from modules."""
    return bool(workflow.deployment_settings.deployment_method)


def rule_names(workflow: Any) -> set[str]:
    """The rules that there are so far."""
    return {rule.name for rule in workflow.rules}


def jobs_to_run(workflow: Any) -> list[Any]:
    """The jobs that will run, when the graph is known."""
    return list(workflow.dag.needrun_jobs())


def resource_limits(workflow: Any) -> tuple[Any, Any]:
    """What `--cores` (`.cores`, `.nodes`) and `--resources` (a mapping) have set; both can be changed.

    There is no public way to take a default for them from the machine.
    """
    return workflow.resource_settings, workflow.global_resources


def declared_resource(job: Any, name: str) -> Any:
    """A resource as a job's rule declares it, before Snakemake cuts it down to the limit; None if it does not."""
    resource = job.rule.resources.get(name)
    return resource and resource.evaluate(job.wildcards, input=job.input, attempt=1).value


def snakemake_logger() -> logging.Logger:
    """Snakemake's logger, by its name: the environments of jobs have no Snakemake to import it from.

    Under another name, messages would be lost.
    """
    return logging.getLogger("snakemake.logging")


def noted_outputs(notes: Path) -> Iterator[tuple[Path, Path]]:
    """Every output that Snakemake has notes on, and the JSON file below ``notes`` that holds them, relative to it.

    The file is named by the output's path in base 64; a long name is cut into folders, all but the last of them marked.
    """
    for path in notes.rglob("*"):
        if path.is_file():
            file = path.relative_to(notes)
            name = "".join(part.removeprefix("@") for part in file.parts)
            yield Path(urlsafe_b64decode(name).decode()), file


def timed_file(output: Path) -> Path:
    """The file that holds an output's time: of a folder, the one that Snakemake puts into it."""
    stamp = output / ".snakemake_timestamp"
    return stamp if stamp.exists() else output
