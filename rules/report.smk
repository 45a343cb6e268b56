# Tables, figures and the report of everything that the study has measured.

from frugal.fingerprint import settings_hash
from frugal.report.contents import (
    CLAIMS_FILE,
    CLAIMS_TABLES,
    FIGURE_FORMATS,
    REPORT_FORMATS,
    STUDY_TABLES,
    TABLE_FORMATS,
    across,
    data_files,
    describe,
    reproduces_any,
    result_files,
)
from frugal.report.latex import can_compile
from frugal.report.study.others import check_others, compared_experiments

REPORT = f"{RESULTS}/report"
# Commands that the report prints name the configuration, where it is not the default one.
OPTIONS = command_options([] if CONFIG_FILES == ["config/config.yaml"] else CONFIG_FILES, GIVEN)
# What the report is made of, as results/<study>/study.yaml holds it for the scripts.
DESCRIBED = describe(STUDY, OPTIONS)
ENTRIES = DESCRIBED["experiments"]
REPORTED = [f"{RESULTS}/{name}/{file}" for name in ENTRIES for file in result_files(DESCRIBED, name)]
REPORTED += sorted({f"data/{file}" for name in ENTRIES for file in data_files(DESCRIBED, name)})
# Other studies' results, which stand beside this one's.
OTHERS = or_exit(check_others, STUDY.report.compare, RESULTS, DESCRIBED)
TABLE_NAMES = [
    *(f"{name}_{part}" for name, entry in ENTRIES.items() for part in entry["tables"]),
    *STUDY_TABLES,
    *map(across, compared_experiments(STUDY.report.compare, DESCRIBED)),
]
FIGURE_NAMES = [f"{name}_{part}" for name, entry in ENTRIES.items() for part in entry["figures"]]
# The claims ledger, which is written with the report; only where an original is reproduced.
CLAIMS_NAMES = CLAIMS_TABLES if reproduces_any(DESCRIBED) else ()
CLAIMS = expand(f"{REPORT}/tables/{{name}}.{{format}}", name=CLAIMS_NAMES, format=TABLE_FORMATS)
CLAIMS += [f"{REPORT}/tables/{CLAIMS_FILE}"] if CLAIMS_NAMES else []
# Sections and originals are imported by their names, which a script's own hash does not follow.
REPORT_FOLDER = SCRIPTS / "frugal" / "report"
REPORT_CODE = settings_hash([depends_on(file.relative_to(SCRIPTS)) for file in sorted(REPORT_FOLDER.rglob("[!.]*.py"))])


localrules:
    describe_study,


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
            name=FIGURE_NAMES,
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


rule describe_study:
    """What the study consists of: its experiments, and each file that the report is made of."""
    output:
        f"{RESULTS}/study.yaml",
    log:
        f"logs/{STUDY.name}/describe_study.log",
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("write_study.py"),
        code=depends_on("write_study.py"),
        study=lambda wildcards: json.dumps(DESCRIBED),  # a function: its texts may hold braces
    shell:
        "python {params.script:q} --study {params.study:q} --output {output} 2>&1 | tee {log}"


rule make_tables:
    """Every table as CSV, Markdown and LaTeX; the paired tests are computed here."""
    input:
        REPORTED,
        OTHERS,
        study=rules.describe_study.output,
    output:
        rules.tables.input,
    log:
        f"logs/{STUDY.name}/make_tables.log",
    benchmark:
        f"logs/{STUDY.name}/make_tables.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=REPORT_MB,
    params:
        script=path_of("make_tables.py"),
        code=[depends_on("make_tables.py"), REPORT_CODE],
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {params.script:q} --study {input.study} --output {params.folder} 2>&1 | tee {log}"


rule plot_figures:
    """Every figure as SVG and PDF."""
    input:
        REPORTED,
        study=rules.describe_study.output,
    output:
        [
            (
                report(
                    f"{REPORT}/figures/{name}_{part}.{extension}",
                    caption=f"../workflow/report/{part}.rst",
                    category=name,
                )
                if extension == "svg"
                else f"{REPORT}/figures/{name}_{part}.{extension}"
            )
            for name, entry in ENTRIES.items()
            for part in entry["figures"]
            for extension in FIGURE_FORMATS
        ],
    log:
        f"logs/{STUDY.name}/plot_figures.log",
    benchmark:
        f"logs/{STUDY.name}/plot_figures.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=REPORT_MB,
    params:
        script=path_of("plot_figures.py"),
        code=[depends_on("plot_figures.py"), REPORT_CODE],
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {params.script:q} --study {input.study} --output {params.folder} 2>&1 | tee {log}"


rule write_report:
    """One template, rendered as Markdown, as one HTML file and as LaTeX."""
    input:
        rules.make_tables.output,
        rules.plot_figures.output,
        REPORTED,
        OTHERS,
        study=rules.describe_study.output,
        claims=os.path.relpath(ROOT / "config/claims.yaml"),
        originals=os.path.relpath(ROOT / "config/originals.yaml"),
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
        f"logs/{STUDY.name}/write_report.log",
    benchmark:
        f"logs/{STUDY.name}/write_report.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=REPORT_MB,
    params:
        script=path_of("write_report.py"),
        configs=lambda wildcards, input: Path(input.claims).parent,
        code=[depends_on("write_report.py"), REPORT_CODE],
        templates=sha256_tree(
            [*(SCRIPTS / "frugal" / "report").rglob("[!.]*.j2"), SCRIPTS / "frugal/report/templates"]
        )[:16],
        # The commands that the ledger prints depend on what the studies contain, and a threat on random weights.
        studies=sha256_tree([ROOT / "config" / name for name in ("config.yaml", "full.yaml", "models.yaml")])[:16],
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {params.script:q} --study {input.study} --claims {input.claims:q}"
        " --configs {params.configs:q} --report {params.folder} 2>&1 | tee {log}"


rule compile_report:
    """The report as PDF; `report` asks for it where LaTeX is installed."""
    input:
        text=f"{REPORT}/report.tex",
        tables=expand(f"{REPORT}/tables/{{name}}.tex", name=[*TABLE_NAMES, *CLAIMS_NAMES]),
        figures=[f"{REPORT}/figures/{name}.pdf" for name in FIGURE_NAMES],
    output:
        report(f"{REPORT}/report.pdf", caption="../workflow/report/report.rst", category="report"),
    log:
        f"logs/{STUDY.name}/compile_report.log",
    benchmark:
        f"logs/{STUDY.name}/compile_report.benchmark.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=REPORT_MB,
    params:
        script=path_of("compile_report.py"),
        code=depends_on("compile_report.py"),
        folder=lambda wildcards, input: Path(input.text).parent,
    shell:
        "python {params.script:q} --report {params.folder} --output {output} 2>&1 | tee {log}"


rule describe_adapter:
    """The adapter's model card, from its results."""
    input:
        config=f"{RUN_FOLDER}/config.yaml",
        metrics=f"{RUN_FOLDER}/metrics.json",
    output:
        f"{RUN_FOLDER}/README.md",
    log:
        f"logs/{STUDY.name}/describe_adapter/{{experiment}}/{{variant}}.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("describe_adapter.py"),
        code=depends_on("describe_adapter.py"),
        template=sha256_tree([REPORT_FOLDER / "templates" / "model_card.md.j2"])[:16],
        models=base_model_entry,
        datasets=dataset_entry,
    shell:
        "python {params.script:q} --config {input.config} --metrics {input.metrics}"
        " --models {params.models:q} --datasets {params.datasets:q} --output {output} 2>&1 | tee {log}"
