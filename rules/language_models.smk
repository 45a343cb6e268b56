# What `wikitext` and `climate` do: documents to blocks of tokens, an adapter on a language model, perplexity, answers.


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
        f"logs/{STUDY.study}/pack_blocks/{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=one_of(LANGUAGE_MODELS),
    conda:
        "../envs/llm.yaml"
    params:
        code=depends_on("pack_blocks.py"),
        folder=lambda wildcards, output: Path(output.counts).parent,
    shell:
        "python workflow/scripts/pack_blocks.py --config {input.config} --experiment {wildcards.experiment}"
        " --documents {input.documents} --tokenizer {input.model} --output {params.folder} 2>&1 | tee {log}"


rule train_language_model:
    """LoRA on the blocks of one variant. A killed run continues from its checkpoint; the shell leaves SIGTERM to it."""
    input:
        config=f"{RUN_FOLDER}/settings/training.yaml",
        model=base_model,
        train=f"{BLOCKS}/train.parquet",
        validation=f"{BLOCKS}/validation.parquet",
        machine=ancient(machine),
    output:
        adapter=directory(f"{RUN_FOLDER}/adapter"),
        history=f"{RUN_FOLDER}/history.csv",
        training=f"{RUN_FOLDER}/training.json",
    log:
        f"logs/{STUDY.study}/train_{{experiment}}/{{variant}}/training.log",
    benchmark:
        f"logs/{STUDY.study}/train_{{experiment}}/{{variant}}/benchmark.tsv"
    wildcard_constraints:
        experiment=one_of(LANGUAGE_MODELS),
    conda:
        training_environment
    threads: 8
    resources:
        **SEVERAL_MACHINES,
        gpu=gpus,
    params:
        code=lambda wildcards: depends_on(f"train_{wildcards.experiment}.py"),
        launcher=launcher,
        checkpoints=f"checkpoints/{STUDY.study}/{{experiment}}/{{variant}}",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} {params.launcher} workflow/scripts/train_{wildcards.experiment}.py"
        " --config {input.config} --base-model {input.model} --train {input.train} --validation {input.validation}"
        " --checkpoints {params.checkpoints} --adapter {output.adapter} --history {output.history}"
        " --training {output.training} 2>&1 | tee {log}"


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
        f"logs/{STUDY.study}/evaluate_{{experiment}}/{{variant}}.log",
    benchmark:
        f"logs/{STUDY.study}/evaluate_{{experiment}}/{{variant}}.benchmark.tsv"
    wildcard_constraints:
        experiment=one_of(LANGUAGE_MODELS),
    conda:
        "../envs/llm.yaml"
    threads: lambda wildcards: run_of(wildcards).evaluation.threads
    resources:
        gpu=one_gpu,
    params:
        code=depends_on("evaluate_language_model.py"),
        trained=trained_options,
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/evaluate_language_model.py --config {input.config}"
        " --experiment {wildcards.experiment} --base-model {input.model} {params.trained} --test {input.test}"
        " --metrics {output.metrics} --documents {output.documents} --answers {output.answers} 2>&1 | tee {log}"


rule write_rating_sheet:
    """The answers of the untuned and the tuned model, unnamed and in random order, for people to rate."""
    input:
        base=f"{RESULTS}/{{experiment}}/{BASE}/answers.jsonl",
        tuned=lambda wildcards: f"{RESULTS}/{wildcards.experiment}/{principal(wildcards.experiment)}/answers.jsonl",
    output:
        sheet=f"{RATING}/sheet.csv",
        page=f"{RATING}/sheet.html",
        key=f"{RATING}/key.json",
    log:
        f"logs/{STUDY.study}/write_rating_sheet/{{experiment}}.log",
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("write_rating_sheet.py"),
        page=sha256_tree([SCRIPTS / "frugal/rating/sheet.html.j2"])[:16],
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "python workflow/scripts/write_rating_sheet.py --experiment {wildcards.experiment} --base {input.base}"
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
        f"logs/{STUDY.study}/read_ratings/{{experiment}}.log",
    conda:
        "../envs/report.yaml"
    params:
        code=depends_on("read_ratings.py"),
    shell:
        "python workflow/scripts/read_ratings.py --key {input.key} --sheets {input.sheets:q} --output {output}"
        " 2>&1 | tee {log}"


rule climb_memory_ladder:
    """Memory and speed with each saving of memory, and the largest batch under a budget; no other job beside it."""
    input:
        model=base_model,
        blocks=lambda wildcards: (
            f"data/blocks/{STUDY.study}/{wildcards.experiment}/{principal(wildcards.experiment)}/train.parquet"
        ),
    output:
        f"{RESULTS}/{{experiment}}/ladder/measurements.json",
    log:
        f"logs/{STUDY.study}/climb_memory_ladder/{{experiment}}.log",
    wildcard_constraints:
        experiment=one_of(LANGUAGE_MODELS),
    conda:
        "../envs/llm.yaml"
    threads: 16
    resources:
        gpu=one_gpu,
    params:
        code=depends_on("climb_memory_ladder.py"),
        child=depends_on("measure_memory.py"),
        settings=measurement_settings("ladder"),
        work=f"checkpoints/{STUDY.study}/{{experiment}}/ladder",
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/climb_memory_ladder.py --settings {params.settings:q}"
        " --base-model {input.model} --blocks {input.blocks} --work {params.work} --output {output} 2>&1 | tee {log}"
