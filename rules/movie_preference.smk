# A language model learns which of two films a user would like: pairs, training, evaluation, baselines.

MOVIE_PREFERENCE = f"{RESULTS}/movie_preference"
PAIRS = f"data/pairs/{STUDY.study}/movie_preference"


rule movie_preference:
    """Every run of the experiment, and its baselines."""
    input:
        expand(f"{MOVIE_PREFERENCE}/{{variant}}/metrics.json", variant=RUNS["movie_preference"]),
        expand(f"{MOVIE_PREFERENCE}/baseline_{{name}}/metrics.json", name=BASELINES["movie_preference"]),
        expand(f"{MOVIE_PREFERENCE}/{{variant}}/README.md", variant=TRAINED["movie_preference"]),


rule make_preference_pairs:
    """Ratings to contrastive pairs; the test users are in no training pair."""
    input:
        config=f"{MOVIE_PREFERENCE}/{{variant}}/settings/pairs.yaml",
        interactions=prepared("interactions.parquet"),
        catalogue=prepared("items.parquet"),
    output:
        expand(f"{PAIRS}/{{{{variant}}}}/{{part}}.jsonl", part=["train", "validation", "test"]),
    log:
        f"logs/{STUDY.study}/make_preference_pairs/{{variant}}.log",
    conda:
        "../envs/base.yaml"
    params:
        code=depends_on("make_preference_pairs.py"),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python workflow/scripts/make_preference_pairs.py --config {input.config} --interactions {input.interactions}"
        " --items {input.catalogue} --output {params.folder} 2>&1 | tee {log}"


rule train_movie_preference:
    """LoRA on the pairs of one variant. A killed run continues from its checkpoint; the shell leaves SIGTERM to it."""
    input:
        config=f"{MOVIE_PREFERENCE}/{{variant}}/settings/training.yaml",
        model=base_model,
        train=f"{PAIRS}/{{variant}}/train.jsonl",
        machine=ancient(machine),
    output:
        adapter=directory(f"{MOVIE_PREFERENCE}/{{variant}}/adapter"),
        history=f"{MOVIE_PREFERENCE}/{{variant}}/history.csv",
        training=f"{MOVIE_PREFERENCE}/{{variant}}/training.json",
    log:
        f"logs/{STUDY.study}/train_movie_preference/{{variant}}.log",
    benchmark:
        f"logs/{STUDY.study}/train_movie_preference/{{variant}}.benchmark.tsv"
    conda:
        training_environment
    threads: 8
    resources:
        **SEVERAL_MACHINES,
        gpu=gpus,
    params:
        code=depends_on("train_movie_preference.py"),
        launcher=launcher,
        checkpoints=f"checkpoints/{STUDY.study}/movie_preference/{{variant}}",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} {params.launcher} workflow/scripts/train_movie_preference.py"
        " --config {input.config} --base-model {input.model} --train {input.train} --checkpoints {params.checkpoints}"
        " --adapter {output.adapter} --history {output.history} --training {output.training} 2>&1 | tee {log}"


rule evaluate_movie_preference:
    """Both orders of every test pair, by log-probabilities; the base model is the run without an adapter."""
    input:
        config=f"{MOVIE_PREFERENCE}/{{variant}}/settings/evaluation.yaml",
        model=base_model,
        test=f"{PAIRS}/{{variant}}/test.jsonl",
        adapter=of_trained("adapter"),
        training=of_trained("training.json"),
    output:
        metrics=f"{MOVIE_PREFERENCE}/{{variant}}/metrics.json",
        predictions=f"{MOVIE_PREFERENCE}/{{variant}}/predictions.parquet",
        examples=f"{MOVIE_PREFERENCE}/{{variant}}/examples.jsonl",
    log:
        f"logs/{STUDY.study}/evaluate_movie_preference/{{variant}}.log",
    benchmark:
        f"logs/{STUDY.study}/evaluate_movie_preference/{{variant}}.benchmark.tsv"
    wildcard_constraints:
        variant=NO_BASELINE,
    conda:
        "../envs/llm.yaml"
    threads: 8
    resources:
        gpu=one_gpu,
    params:
        code=depends_on("evaluate_movie_preference.py"),
        trained=trained_options,
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/evaluate_movie_preference.py --config {input.config}"
        " --base-model {input.model} {params.trained} --test {input.test} --metrics {output.metrics}"
        " --predictions {output.predictions} --examples {output.examples} 2>&1 | tee {log}"


rule score_preference_baselines:
    """The same test pairs by rules: always A, popularity, shared genres, EASE."""
    input:
        config=f"{MOVIE_PREFERENCE}/{BASE}/settings/evaluation.yaml",
        interactions=prepared("interactions.parquet"),
        catalogue=prepared("items.parquet"),
        test=f"{PAIRS}/{BASE}/test.jsonl",
    output:
        expand(
            f"{MOVIE_PREFERENCE}/baseline_{{name}}/{{file}}",
            name=BASELINES["movie_preference"],
            file=["metrics.json", "predictions.parquet"],
        ),
    log:
        f"logs/{STUDY.study}/score_preference_baselines.log",
    conda:
        "../envs/llm.yaml"
    params:
        code=depends_on("score_preference_baselines.py"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    shell:
        "python workflow/scripts/score_preference_baselines.py --config {input.config}"
        " --interactions {input.interactions} --items {input.catalogue} --test {input.test}"
        " --results {params.folder} 2>&1 | tee {log}"
