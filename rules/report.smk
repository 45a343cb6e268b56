# Tables, figures and the report of everything that the study has measured.

import os

from frugal.report.contents import (
    ACROSS,
    CLAIMS_FILE,
    CLAIMS_TABLES,
    FIGURES,
    FIGURE_FORMATS,
    REPORT_FORMATS,
    STUDY_TABLES,
    TABLE_FORMATS,
    TABLES,
)
from frugal.report.latex import can_compile
from frugal.report.study.others import check_others, compared_experiments

REPORT = f"{RESULTS}/report"

# Every expected run, rules first: the order of the tables' rows.
REPORTED = {
    experiment: [
        *(f"baseline_{name}" for name in BASELINES[experiment]),
        *RUNS[experiment],
    ]
    for experiment in RUNS
}
REPORTED_RUNS = [f"{experiment}/{name}" for experiment, names in REPORTED.items() for name in names]
MODEL_RUNS = [f"{experiment}/{name}" for experiment in RUNS for name in RUNS[experiment]]
PREFERENCE_RUNS = [run for run in MODEL_RUNS if run.startswith("movie_preference/")]
CORPUS_RUNS = [run for run in MODEL_RUNS if run.startswith(tuple(f"{name}/" for name in LANGUAGE_MODELS))]
PREDICTING_RUNS = [run for run in REPORTED_RUNS if run not in CORPUS_RUNS]
# A recommender run trains a model a seed, and each has a history of its own.
HISTORIES = [
    *(
        f"{RESULTS}/{experiment}/{name}/history.csv"
        for experiment in ("movie_preference", *LANGUAGE_MODELS)
        for name in TRAINED[experiment]
    ),
    *(
        f"{RESULTS}/{experiment}/{name}/seeds/{seed}/history.csv"
        for experiment in RECOMMENDERS
        for name, run in RUNS[experiment].items()
        for seed in run.seeds
    ),
]
# Speed and memory by size and mode are measured only where the configuration says how.
MEASURED = [experiment for experiment in RECOMMENDERS if measurement_of(experiment, "efficiency")]
EFFICIENCY = [f"{RESULTS}/{experiment}/efficiency/measurements.json" for experiment in MEASURED]
LADDERS = [experiment for experiment in LANGUAGE_MODELS if measurement_of(experiment, "ladder")]
# What the report knows of the language models beside the files of their runs.
CORPUS_FILES = [
    *expand("data/prepared/{name}/manifest.parquet", name=USED_DOCUMENTS),
    *(
        f"data/blocks/{STUDY.study}/{experiment}/{name}/blocks.json"
        for experiment in LANGUAGE_MODELS
        for name in TRAINED[experiment]
    ),
    *(f"{RESULTS}/{run}/{file}" for run in CORPUS_RUNS for file in ("documents.parquet", "answers.jsonl")),
    *(f"{RESULTS}/{experiment}/ladder/measurements.json" for experiment in LADDERS),
    *(
        f"{RESULTS}/{experiment}/rating/ratings.json"
        for experiment in LANGUAGE_MODELS
        if SHARED[experiment].rating.sheets
    ),
]
# Other studies' results, which stand beside this one's.
OTHERS = or_exit(check_others, STUDY.report.compare, RESULTS)
# The tables and figures of the experiments that this study has.
TABLE_NAMES = [
    *(name for experiment, names in TABLES.items() if experiment in RUNS for name in names),
    *STUDY_TABLES,
    *(ACROSS[experiment] for experiment in compared_experiments(STUDY.report.compare)),
]
# The claims ledger, which is written with the report.
CLAIMS = [
    *expand(f"{REPORT}/tables/{{name}}.{{format}}", name=CLAIMS_TABLES, format=TABLE_FORMATS),
    f"{REPORT}/tables/{CLAIMS_FILE}",
]
FIGURE_NAMES = {experiment: names for experiment, names in FIGURES.items() if experiment in RUNS}
# Commands that the report prints name the configuration, where it is not the default one.
CONFIG_OPTION = os.path.relpath(CONFIG_FILE, ROOT)
CONFIG_OPTION = "" if CONFIG_OPTION == "config/config.yaml" else f"--configfile {quote(CONFIG_OPTION)}"
MEASURED_OPTION = f"--efficiency {' '.join(MEASURED)}" if MEASURED else ""
LADDER_OPTION = f"--ladder {' '.join(LADDERS)}" if LADDERS else ""
REPORT_OPTIONS = (
    f"--results {RESULTS} --study {STUDY.study} --runs {' '.join(REPORTED_RUNS)} {MEASURED_OPTION} {LADDER_OPTION}"
    f" {CONFIG_OPTION}"
)
COMPARE_OPTION = " ".join(["--compare", *(quote(f"{name}={path}") for name, path in STUDY.report.compare.items())])
COMPARE_OPTION = COMPARE_OPTION if OTHERS else ""
THREATS_OPTION = " ".join(f"--threat={quote(sentence)}" for sentence in STUDY.report.threats)


rule tables:
    """The tables of all experiments."""
    input:
        expand(
            f"{REPORT}/tables/{{name}}.{{format}}",
            name=TABLE_NAMES,
            format=TABLE_FORMATS,
        ),


rule figures:
    """The figures of all experiments."""
    input:
        expand(
            f"{REPORT}/figures/{{name}}.{{format}}",
            name=[name for names in FIGURE_NAMES.values() for name in names],
            format=FIGURE_FORMATS,
        ),


rule report:
    """The report in all its formats, with its tables and figures; as PDF where LaTeX is installed."""
    input:
        expand(f"{REPORT}/report.{{format}}", format=REPORT_FORMATS),
        f"{REPORT}/report.pdf" if can_compile() else [],
        rules.tables.input,
        rules.figures.input,
        CLAIMS,


rule make_tables:
    """Every table as CSV, Markdown and LaTeX; the paired tests are computed here."""
    input:
        configs=expand(f"{RESULTS}/{{run}}/config.yaml", run=MODEL_RUNS),
        metrics=expand(f"{RESULTS}/{{run}}/metrics.json", run=REPORTED_RUNS),
        predictions=expand(f"{RESULTS}/{{run}}/predictions.parquet", run=PREDICTING_RUNS),
        examples=expand(f"{RESULTS}/{{run}}/examples.jsonl", run=PREFERENCE_RUNS),
        summaries=expand("data/prepared/{name}/summary.json", name=USED),
        histories=HISTORIES,
        efficiency=EFFICIENCY,
        corpora=CORPUS_FILES,
        others=OTHERS,
    output:
        rules.tables.input,
    log:
        f"logs/{STUDY.study}/make_tables.log",
    benchmark:
        f"logs/{STUDY.study}/make_tables.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("make_tables.py"),
        options=lambda wildcards: f"{REPORT_OPTIONS} {COMPARE_OPTION}",
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python workflow/scripts/make_tables.py {params.options} --output {params.folder} 2>&1 | tee {log}"


rule plot_figures:
    """Every figure as SVG and PDF."""
    input:
        configs=expand(f"{RESULTS}/{{run}}/config.yaml", run=MODEL_RUNS),
        metrics=expand(f"{RESULTS}/{{run}}/metrics.json", run=REPORTED_RUNS),
        predictions=expand(f"{RESULTS}/{{run}}/predictions.parquet", run=PREFERENCE_RUNS),
        histories=HISTORIES,
        efficiency=EFFICIENCY,
        corpora=CORPUS_FILES,
    output:
        [
            (
                report(
                    f"{REPORT}/figures/{name}.{extension}",
                    caption=f"../workflow/report/{name}.rst",
                    category=experiment,
                )
                if extension == "svg"
                else f"{REPORT}/figures/{name}.{extension}"
            )
            for experiment, names in FIGURE_NAMES.items()
            for name in names
            for extension in FIGURE_FORMATS
        ],
    log:
        f"logs/{STUDY.study}/plot_figures.log",
    benchmark:
        f"logs/{STUDY.study}/plot_figures.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("plot_figures.py"),
        options=REPORT_OPTIONS,
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python workflow/scripts/plot_figures.py {params.options} --output {params.folder} 2>&1 | tee {log}"


rule write_report:
    """One template, rendered as Markdown, as one HTML file and as LaTeX."""
    input:
        tables=rules.make_tables.output,
        figures=rules.plot_figures.output,
        configs=expand(f"{RESULTS}/{{run}}/config.yaml", run=MODEL_RUNS),
        metrics=expand(f"{RESULTS}/{{run}}/metrics.json", run=REPORTED_RUNS),
        examples=expand(f"{RESULTS}/{{run}}/examples.jsonl", run=PREFERENCE_RUNS),
        efficiency=EFFICIENCY,
        corpora=CORPUS_FILES,
        claims="config/claims.yaml",
    output:
        f"{REPORT}/report.md",
        report(
            f"{REPORT}/report.html",
            caption="../workflow/report/report.rst",
            category="report",
        ),
        f"{REPORT}/report.tex",
        CLAIMS,
    log:
        f"logs/{STUDY.study}/write_report.log",
    benchmark:
        f"logs/{STUDY.study}/write_report.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("write_report.py"),
        templates=sha256_tree([SCRIPTS / "frugal" / "report" / "templates"])[:16],
        # The commands that the ledger prints depend on what the studies contain, and a threat on random weights.
        studies=sha256_tree([ROOT / "config" / name for name in ("config.yaml", "full.yaml", "models.yaml")])[:16],
        options=lambda wildcards: f"{REPORT_OPTIONS} {COMPARE_OPTION} {THREATS_OPTION}",
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python workflow/scripts/write_report.py {params.options} --report {params.folder} 2>&1 | tee {log}"


rule compile_report:
    """The report as PDF; `report` asks for it where LaTeX is installed."""
    input:
        text=f"{REPORT}/report.tex",
        tables=expand(f"{REPORT}/tables/{{name}}.tex", name=[*TABLE_NAMES, *CLAIMS_TABLES]),
        figures=[f"{REPORT}/figures/{name}.pdf" for names in FIGURE_NAMES.values() for name in names],
    output:
        report(f"{REPORT}/report.pdf", caption="../workflow/report/report.rst", category="report"),
    log:
        f"logs/{STUDY.study}/compile_report.log",
    benchmark:
        f"logs/{STUDY.study}/compile_report.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("compile_report.py"),
        folder=lambda wildcards, input: Path(input.text).parent,
    shell:
        "python workflow/scripts/compile_report.py --report {params.folder} --output {output} 2>&1 | tee {log}"


rule describe_adapter:
    """The adapter's model card, from its results."""
    input:
        config=f"{RUN_FOLDER}/config.yaml",
        metrics=f"{RUN_FOLDER}/metrics.json",
    output:
        f"{RUN_FOLDER}/README.md",
    log:
        f"logs/{STUDY.study}/describe_adapter/{{experiment}}/{{variant}}.log",
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("describe_adapter.py"),
    shell:
        "python workflow/scripts/describe_adapter.py --experiment {wildcards.experiment} --config {input.config}"
        " --metrics {input.metrics} --output {output} 2>&1 | tee {log}"
