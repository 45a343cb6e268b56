# A language model learns which of two items a user would like: pairs, training, evaluation, baselines.

PREFERENCE_EXPERIMENTS = one_of(STUDY.of_kind(PREFERENCE))
PAIRS = f"data/pairs/{STUDY.name}/{{experiment}}/{{variant}}"
RESULTS_OF[PREFERENCE] = lambda one: [
    *expand("{run}/{file}", run=[*one.runs, *one.baseline_runs], file=["metrics.json", "predictions.parquet"]),
    *expand("{run}/{file}", run=one.runs, file=["examples.jsonl", "config.yaml"]),
    *expand("{variant}/README.md", variant=one.variants),
]


rule make_preference_pairs:
    """Ratings to contrastive pairs; the test users are in no training pair."""
    input:
        config=f"{RUN_FOLDER}/settings/pairs.yaml",
        interactions=prepared("interactions.parquet"),
        catalogue=prepared("items.parquet"),
    output:
        expand(f"{PAIRS}/{{part}}.jsonl", part=["train", "validation", "test"], allow_missing=True),
    log:
        f"logs/{STUDY.name}/make_preference_pairs/{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=PREFERENCE_EXPERIMENTS,
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=of_data(recommender_memory.pairs_mb),
    params:
        script=path_of("make_preference_pairs.py"),
        code=depends_on("make_preference_pairs.py"),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python {params.script:q} --config {input.config} --interactions {input.interactions}"
        " --items {input.catalogue} --output {params.folder} 2>&1 | tee {log}"


rule train_preference:
    """LoRA on the pairs of one variant. A killed run continues from its checkpoint."""
    input:
        config=f"{RUN_FOLDER}/settings/training.yaml",
        model=base_model,
        train=f"{PAIRS}/train.jsonl",
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
        experiment=PREFERENCE_EXPERIMENTS,
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
        " --config {input.config} --base-model {input.model} --train {input.train} --checkpoints {params.checkpoints}"
        " --adapter {output.adapter} --history {output.history} --training {output.training} 2>&1 | tee {log}"


rule evaluate_preference:
    """Both orders of every test pair, by log-probabilities; the base model is the run without an adapter."""
    input:
        config=f"{RUN_FOLDER}/settings/evaluation.yaml",
        model=base_model,
        test=f"{PAIRS}/test.jsonl",
        adapter=of_trained("adapter"),
        training=of_trained("training.json"),
    output:
        metrics=f"{RUN_FOLDER}/metrics.json",
        predictions=f"{RUN_FOLDER}/predictions.parquet",
        examples=f"{RUN_FOLDER}/examples.jsonl",
    log:
        f"logs/{STUDY.name}/evaluate_{{experiment}}/{{variant}}.log",
    benchmark:
        f"logs/{STUDY.name}/evaluate_{{experiment}}/{{variant}}.benchmark.tsv"
    wildcard_constraints:
        experiment=PREFERENCE_EXPERIMENTS,
        variant=NO_BASELINE,
    conda:
        "../envs/llm.yaml"
    threads: 8
    resources:
        mem_mb=evaluation_memory,
        gpu=one_gpu,
    params:
        script=path_of("evaluate_preference.py"),
        code=depends_on("evaluate_preference.py"),
        trained=trained_options,
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --config {input.config}"
        " --base-model {input.model} {params.trained} --test {input.test} --metrics {output.metrics}"
        " --predictions {output.predictions} --examples {output.examples} 2>&1 | tee {log}"


rule score_preference_baselines:
    """The same test pairs by baselines: always A, popularity, shared attributes, EASE."""
    input:
        config=f"{RESULTS}/{{experiment}}/{BASE}/settings/evaluation.yaml",
        interactions=prepared("interactions.parquet"),
        catalogue=prepared("items.parquet"),
        test=f"data/pairs/{STUDY.name}/{{experiment}}/{BASE}/test.jsonl",
    output:
        expand(
            f"{RESULTS}/{{experiment}}/baseline_{{name}}/{{file}}",
            name=PREFERENCE.baselines,
            file=["metrics.json", "predictions.parquet"],
            allow_missing=True,
        ),
    log:
        f"logs/{STUDY.name}/score_{{experiment}}_baselines.log",
    wildcard_constraints:
        experiment=PREFERENCE_EXPERIMENTS,
    conda:
        "../envs/llm.yaml"
    resources:
        mem_mb=of_data(within_limit(recommender_memory.pair_baselines_mb)),
    params:
        script=path_of("score_preference_baselines.py"),
        code=depends_on("score_preference_baselines.py"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    shell:
        "python {params.script:q} --config {input.config}"
        " --interactions {input.interactions} --items {input.catalogue} --test {input.test}"
        " --memory-mb {resources.mem_mb} --results {params.folder} 2>&1 | tee {log}"
