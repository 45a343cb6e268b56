from snakemake.utils import min_version

min_version("9.0")

# A study given by --configfile stands alone; without one, the laptop study runs.
if "study" not in config:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/machine.smk"
include: "rules/movie_preference.smk"
include: "rules/recommenders.smk"
include: "rules/ssept.smk"
include: "rules/bert4rec.smk"
include: "rules/language_models.smk"
include: "rules/wikitext.smk"
include: "rules/climate.smk"
include: "rules/report.smk"


onstart:
    preflight()


localrules:
    all,
    data,
    models,
    preflight,
    movie_preference,
    ssept,
    bert4rec,
    wikitext,
    climate,
    fetch,
    write_run_config,
    describe_adapter,
    write_rating_sheet,
    read_ratings,
    tables,
    figures,
    report,


rule all:
    default_target: True
    input:
        rules.movie_preference.input,
        rules.ssept.input,
        rules.bert4rec.input,
        rules.wikitext.input,
        rules.climate.input,
        rules.report.input,
