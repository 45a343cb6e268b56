# A language model learns a corpus: blocks of tokens, an adapter, perplexity, answers, ratings, the memory ladder.

LANGUAGE_MODELING_EXPERIMENTS = one_of(STUDY.of_kind(LANGUAGE_MODELING))
BLOCKS = f"data/blocks/{STUDY.name}/{{experiment}}/{{variant}}"
RATING = f"{RESULTS}/{{experiment}}/rating"
RESULTS_OF[LANGUAGE_MODELING] = lambda one: [
    *expand("{run}/{file}", run=one.runs, file=["metrics.json", "documents.parquet", "answers.jsonl", "config.yaml"]),
    *expand("{variant}/README.md", variant=one.variants),
    *(["rating/sheet.html"] if one.shared.prompts.texts else []),
    *(["rating/ratings.json"] if one.shared.rating.sheets else []),
    *(["ladder/measurements.json"] if one.ladder else []),
]


rule pack_blocks:
    """Documents to packed blocks for training and whole texts for the test, split by document."""
    input:
        config=f"{RUN_FOLDER}/settings/blocks.yaml",
        documents=prepared("documents.parquet"),
        model=base_model,
    output:
        expand(f"{BLOCKS}/{{part}}.parquet", part=["train", "validation", "test"], allow_missing=True),
        counts=f"{BLOCKS}/blocks.json",
    log:
        f"logs/{STUDY.name}/pack_blocks/{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=LANGUAGE_MODELING_EXPERIMENTS,
    conda:
        "../envs/llm.yaml"
    resources:
        mem_mb=BLOCKS_MB,
    params:
        script=path_of("pack_blocks.py"),
        code=depends_on("pack_blocks.py"),
        folder=lambda wildcards, output: Path(output.counts).parent,
    shell:
        "python {params.script:q} --config {input.config}"
        " --documents {input.documents} --tokenizer {input.model} --output {params.folder} 2>&1 | tee {log}"


rule train_language_model:
    """LoRA on the blocks of one variant. A killed run continues from its checkpoint."""
    input:
        config=f"{RUN_FOLDER}/settings/training.yaml",
        run=ancient(f"{RUN_FOLDER}/config.yaml"),  # only checked: a change of it does not train again
        model=base_model,
        train=f"{BLOCKS}/train.parquet",
        validation=f"{BLOCKS}/validation.parquet",
        machine=ancient(machine),
    output:
        adapter=directory(f"{RUN_FOLDER}/adapter"),
        history=f"{RUN_FOLDER}/history.csv",
        training=f"{RUN_FOLDER}/training.json",
    log:
        f"logs/{STUDY.name}/train_{{experiment}}/{{variant}}/training.log",
    benchmark:
        f"logs/{STUDY.name}/train_{{experiment}}/{{variant}}/benchmark.tsv"
    wildcard_constraints:
        experiment=LANGUAGE_MODELING_EXPERIMENTS,
    conda:
        training_environment
    threads: 8
    resources:
        **SEVERAL_MACHINES,
        mem_mb=of_model(needs.training_mb),
        gpu=gpus,
    params:
        code=training_code,
        script=training_path,
        launcher=launcher,
        checkpoints=f"checkpoints/{STUDY.name}/{{experiment}}/{{variant}}",
    shell:
        "OMP_NUM_THREADS={threads} {params.launcher} {params.script:q}"
        " --config {input.config} --run {input.run} --base-model {input.model} --train {input.train}"
        " --validation {input.validation} --checkpoints {params.checkpoints} --adapter {output.adapter}"
        " --history {output.history} --training {output.training} 2>&1 | tee {log}"


rule evaluate_language_model:
    """Perplexity on the test documents, and answers to the prompts; the base model is the run without an adapter."""
    input:
        config=f"{RUN_FOLDER}/settings/evaluation.yaml",
        model=base_model,
        test=test_texts,
        adapter=of_trained("adapter"),
        training=of_trained("training.json"),
    output:
        metrics=f"{RUN_FOLDER}/metrics.json",
        documents=f"{RUN_FOLDER}/documents.parquet",
        answers=f"{RUN_FOLDER}/answers.jsonl",
    log:
        f"logs/{STUDY.name}/evaluate_{{experiment}}/{{variant}}.log",
    benchmark:
        f"logs/{STUDY.name}/evaluate_{{experiment}}/{{variant}}.benchmark.tsv"
    wildcard_constraints:
        experiment=LANGUAGE_MODELING_EXPERIMENTS,
    conda:
        "../envs/llm.yaml"
    threads: lambda wildcards: run_of(wildcards).evaluation.threads
    resources:
        mem_mb=evaluation_memory,
        gpu=one_gpu,
    params:
        script=path_of("evaluate_language_model.py"),
        code=depends_on("evaluate_language_model.py"),
        trained=trained_options,
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --config {input.config}"
        " --base-model {input.model} {params.trained} --test {input.test}"
        " --metrics {output.metrics} --documents {output.documents} --answers {output.answers} 2>&1 | tee {log}"


rule write_rating_sheet:
    """The answers of the untuned and the tuned model, unnamed and in random order, for people to rate."""
    input:
        base=f"{RESULTS}/{{experiment}}/{BASE}/answers.jsonl",
        tuned=lambda wildcards: f"{RESULTS}/{wildcards.experiment}/{EXPERIMENTS[wildcards.experiment].principal}/answers.jsonl",
    output:
        sheet=f"{RATING}/sheet.csv",
        page=f"{RATING}/sheet.html",
        key=f"{RATING}/key.json",
    log:
        f"logs/{STUDY.name}/write_rating_sheet/{{experiment}}.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("write_rating_sheet.py"),
        code=depends_on("write_rating_sheet.py"),
        page=sha256_tree([SCRIPTS / "frugal/llm/rating/sheet.html.j2"])[:16],
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "python {params.script:q} --experiment {wildcards.experiment} --base {input.base}"
        " --tuned {input.tuned} --seed {params.seed} --sheet {output.sheet} --page {output.page}"
        " --key {output.key} 2>&1 | tee {log}"


rule read_ratings:
    """Filled rating sheets: means, win rate, and how far the raters agree."""
    input:
        key=f"{RATING}/key.json",
        sheets=lambda wildcards: run_of(wildcards).rating.sheets,
    output:
        f"{RATING}/ratings.json",
    log:
        f"logs/{STUDY.name}/read_ratings/{{experiment}}.log",
    conda:
        "../envs/report.yaml"
    resources:
        mem_mb=LIGHT_MB,
    params:
        script=path_of("read_ratings.py"),
        code=depends_on("read_ratings.py"),
    shell:
        "python {params.script:q} --key {input.key} --sheets {input.sheets:q} --output {output}" " 2>&1 | tee {log}"


rule climb_memory_ladder:
    """Memory and speed with each saving of memory, and the largest batch under a budget; no other job beside it."""
    input:
        model=base_model,
        blocks=lambda wildcards: (
            f"data/blocks/{STUDY.name}/{wildcards.experiment}/{EXPERIMENTS[wildcards.experiment].principal}/train.parquet"
        ),
    output:
        f"{RESULTS}/{{experiment}}/ladder/measurements.json",
    log:
        f"logs/{STUDY.name}/climb_memory_ladder/{{experiment}}.log",
    wildcard_constraints:
        experiment=LANGUAGE_MODELING_EXPERIMENTS,
    conda:
        "../envs/llm.yaml"
    threads: 16
    resources:
        mem_mb=ladder_memory,
        gpu=one_gpu,
    params:
        script=path_of("climb_memory_ladder.py"),
        code=depends_on("climb_memory_ladder.py"),
        child=depends_on("measure_memory.py"),
        settings=measurement_settings("ladder"),
        work=f"checkpoints/{STUDY.name}/{{experiment}}/ladder",
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --settings {params.settings:q}"
        " --base-model {input.model} --blocks {input.blocks} --work {params.work} --output {output} 2>&1 | tee {log}"
