from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

# A study given by --configfile stands alone; without one, config/config.yaml runs: of the working directory, or the
# laptop study.
if "study" not in config:
    own = Path("config/config.yaml")

    configfile: own if own.exists() else f"{workflow.current_basedir}/{own}"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/memory.smk"
include: "rules/data.smk"
include: "rules/machine.smk"
include: "rules/preference.smk"
include: "rules/recommendation.smk"
include: "rules/search.smk"
include: "rules/language_modeling.smk"
include: "rules/report.smk"


onstart:
    end_jobs_on_signals(force=runs_jobs_here(workflow))  # once more: Snakemake has set its own handler since
    preflight()


localrules:
    all,
    data,
    models,
    preflight,
    fetch,
    write_run_config,
    describe_adapter,
    write_rating_sheet,
    read_ratings,
    tables,
    figures,
    report,
    search,


rule all:
    default_target: True
    input:
        [results_of(name) for name in EXPERIMENTS],
        rules.report.input,


check_targets()

# Each experiment is a target: everything that it leaves behind.
for name in EXPERIMENTS:

    rule:
        name:
            name
        input:
            results_of(name),
        localrule: True
