# From the name of a data set or base model to prepared files. Only `fetch` uses the network.


USED = sorted({run.dataset for _, _, run in ALL_RUNS})
USED_DOCUMENTS = [name for name in USED if holds_documents(DATASETS[name])]
USED_INTERACTIONS = [name for name in USED if not holds_documents(DATASETS[name])]


rule data:
    """The prepared data of every experiment."""
    input:
        expand(
            "data/prepared/{name}/{file}",
            name=USED_INTERACTIONS,
            file=["interactions.parquet", "items.parquet"],
        ),
        expand("data/prepared/{name}/documents.parquet", name=USED_DOCUMENTS),


rule models:
    """The base models of every experiment."""
    input:
        expand(
            "data/models/{name}",
            name=sorted(BASE_MODELS),
        ),


rule fetch:
    """Download, check and unpack one data set or model; the user's own files are copied."""
    output:
        directory("data/raw/{name}"),
    log:
        "logs/fetch/{name}.log",
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("fetch_source.py"),
        entry=entry_of,
        local=local_path,
        own=own_content,
    shell:
        "python {params.script:q} --table {params.entry:q} --name {wildcards.name} {params.local}"
        " --output {output} 2>&1 | tee {log}"


rule prepare_interactions:
    """Interactions and the items' descriptions, in any format, to Parquet."""
    input:
        raw="data/raw/{name}",
    output:
        interactions="data/prepared/{name}/interactions.parquet",
        catalogue="data/prepared/{name}/items.parquet",
        users="data/prepared/{name}/users.parquet",
        summary="data/prepared/{name}/summary.json",
    log:
        "logs/prepare_interactions/{name}.log",
    benchmark:
        "logs/prepare_interactions/{name}.benchmark.tsv"
    wildcard_constraints:
        name=one_of(name for name in DATASETS if not holds_documents(DATASETS[name])),
    conda:
        "../envs/base.yaml"
    threads: 2
    resources:
        mem_mb=of_data(recommender_memory.preparation_mb),
    params:
        script=path_of("prepare_interactions.py"),
        code=depends_on("prepare_interactions.py"),
        entry=entry_of,
    shell:
        "python {params.script:q} --table {params.entry:q} --name {wildcards.name}"
        " --raw {input.raw} --interactions {output.interactions} --items {output.catalogue}"
        " --users {output.users} --summary {output.summary} 2>&1 | tee {log}"


rule prepare_documents:
    """Articles, texts or PDFs to clean text, with a manifest that says what became of each."""
    input:
        raw="data/raw/{name}",
    output:
        documents="data/prepared/{name}/documents.parquet",
        manifest="data/prepared/{name}/manifest.parquet",
        summary="data/prepared/{name}/summary.json",
    log:
        "logs/prepare_documents/{name}.log",
    benchmark:
        "logs/prepare_documents/{name}.benchmark.tsv"
    wildcard_constraints:
        name=one_of(name for name in DATASETS if holds_documents(DATASETS[name])),
    conda:
        "../envs/documents.yaml"
    resources:
        mem_mb=DOCUMENTS_MB,
    params:
        script=path_of("prepare_documents.py"),
        code=depends_on("prepare_documents.py"),
        entry=entry_of,
    shell:
        "python {params.script:q} --table {params.entry:q} --name {wildcards.name}"
        " --raw {input.raw} --documents {output.documents} --manifest {output.manifest}"
        " --summary {output.summary} 2>&1 | tee {log}"


rule prepare_model:
    """A fetched model, converted once to safetensors."""
    input:
        raw=lambda wildcards: [] if is_random(wildcards.name) else f"data/raw/{wildcards.name}",
    output:
        directory("data/models/{name}"),
    log:
        "logs/prepare_model/{name}.log",
    benchmark:
        "logs/prepare_model/{name}.benchmark.tsv"
    conda:
        "../envs/llm.yaml"
    threads: 2
    resources:
        mem_mb=model_memory,
    params:
        script=path_of("prepare_model.py"),
        code=depends_on("prepare_model.py"),
        entry=entry_of,
        raw=lambda wildcards, input: f"--raw {input.raw}" if input.raw else "",
    shell:
        "python {params.script:q} --table {params.entry:q} --name {wildcards.name} {params.raw}"
        " --output {output} 2>&1 | tee {log}"


rule write_run_config:
    """The resolved settings of one run, whole (config.yaml) and as each stage reads them (settings/)."""
    output:
        f"{RUN_FOLDER}/{{file}}.yaml",
    log:
        f"logs/{STUDY.name}/write_run_config/{{experiment}}/{{variant}}/{{file}}.log",
    wildcard_constraints:
        file="config|settings/[a-z]+",
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("write_run_config.py"),
        kind=lambda wildcards: EXPERIMENTS[wildcards.experiment].kind.name,
        settings=settings_of,
    shell:
        "python {params.script:q} --experiment {wildcards.experiment} --kind {params.kind}"
        " --settings {params.settings:q} --output {output} 2>&1 | tee {log}"
