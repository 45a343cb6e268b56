# What both recommender experiments do: histories to shards, shards to models, one for each seed, to rankings.


rule partition_interactions:
    """Each user's history, cut into training, validation and evaluation: NPZ shards."""
    input:
        interactions="data/prepared/{name}/interactions.parquet",
        catalogue="data/prepared/{name}/items.parquet",
    output:
        directory("data/sequences/{name}/{key}"),
    log:
        "logs/partition_interactions/{name}/{key}.log",
    conda:
        "../envs/recsys.yaml"
    params:
        code=depends_on("partition_interactions.py"),
        settings=lambda wildcards: SEQUENCES[wildcards.name, wildcards.key].model_dump_json(),
    shell:
        "python workflow/scripts/partition_interactions.py --interactions {input.interactions}"
        " --items {input.catalogue} --settings {params.settings:q} --output {output} 2>&1 | tee {log}"


rule train_recommender:
    """One variant with one seed. A killed run continues from its checkpoint; the shell leaves SIGTERM to it."""
    input:
        config=f"{RUN_FOLDER}/settings/training.yaml",
        sequences=sequences,
        warm_start=warm_start,
        machine=ancient(machine),
    output:
        model=directory(f"{SEED}/model"),
        history=f"{SEED}/history.csv",
        training=f"{SEED}/training.json",
    log:
        f"logs/{STUDY.study}/train_{{experiment}}/{{variant}}/{{seed}}.log",
    benchmark:
        f"logs/{STUDY.study}/train_{{experiment}}/{{variant}}/{{seed}}.benchmark.tsv"
    wildcard_constraints:
        experiment=one_of(RECOMMENDERS),
    # Before the short jobs, which fill what the last training leaves idle.
    priority: 1
    conda:
        "../envs/recsys.yaml"
    threads: lambda wildcards: run_of(wildcards).training.threads
    resources:
        **SEVERAL_MACHINES,
        gpu=gpus,
    params:
        code=lambda wildcards: depends_on(f"train_{wildcards.experiment}.py"),
        launcher=launcher,
        warm_start=lambda wildcards, input: f"--warm-start {input.warm_start}" if input.warm_start else "",
        checkpoints=f"checkpoints/{STUDY.study}/{{experiment}}/{{variant}}-{{seed}}",
        profile=f"logs/{STUDY.study}/train_{{experiment}}/{{variant}}/{{seed}}.profile",
    shell:
        "trap '' TERM; OMP_NUM_THREADS={threads} {params.launcher} workflow/scripts/train_{wildcards.experiment}.py"
        " --config {input.config} --seed {wildcards.seed} --sequences {input.sequences} {params.warm_start}"
        " --checkpoints {params.checkpoints} --model {output.model} --history {output.history}"
        " --training {output.training} --profile {params.profile} 2>&1 | tee {log}"


rule evaluate_recommender:
    """The whole catalogue ranked for every test user, by the models of all seeds."""
    input:
        config=f"{RUN_FOLDER}/settings/evaluation.yaml",
        sequences=sequences,
        models=of_seeds("model"),
        training=of_seeds("training.json"),
        backbones=backbones,
    output:
        metrics=f"{RUN_FOLDER}/metrics.json",
        predictions=f"{RUN_FOLDER}/predictions.parquet",
    log:
        f"logs/{STUDY.study}/evaluate_{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=one_of(RECOMMENDERS),
        variant=NO_BASELINE,
    conda:
        "../envs/recsys.yaml"
    threads: lambda wildcards: run_of(wildcards).training.threads
    resources:
        gpu=one_gpu,
    params:
        code=depends_on("evaluate_recommender.py"),
        backbones=lambda wildcards, input: f"--backbones {input.backbones}" if input.backbones else "",
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/evaluate_recommender.py"
        " --experiment {wildcards.experiment} --config {input.config} --sequences {input.sequences}"
        " --models {input.models} --training {input.training} {params.backbones}"
        " --metrics {output.metrics} --predictions {output.predictions} 2>&1 | tee {log}"


rule score_recommender_baselines:
    """The same test users by rules and shallow models: popularity, ItemKNN, EASE, recency, Markov."""
    input:
        config=f"{RESULTS}/{{experiment}}/{BASE}/settings/baselines.yaml",
        sequences=sequences,
    output:
        expand(
            f"{RESULTS}/{{experiment}}/baseline_{{name}}/{{file}}",
            name=BASELINES["ssept"],
            file=["metrics.json", "predictions.parquet"],
            allow_missing=True,
        ),
    log:
        f"logs/{STUDY.study}/score_{{experiment}}_baselines.log",
    wildcard_constraints:
        experiment=one_of(RECOMMENDERS),
    conda:
        "../envs/recsys.yaml"
    params:
        code=depends_on("score_recommender_baselines.py"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/score_recommender_baselines.py --config {input.config}"
        " --experiment {wildcards.experiment} --sequences {input.sequences} --results {params.folder} 2>&1 | tee {log}"


rule measure_efficiency:
    """Speed and memory of each size and mode, each in a process of its own; no other job on up to 16 cores."""
    output:
        f"{RESULTS}/{{experiment}}/efficiency/measurements.json",
    log:
        f"logs/{STUDY.study}/measure_{{experiment}}_efficiency.log",
    wildcard_constraints:
        experiment=one_of(RECOMMENDERS),
    # First, while all cores are free anyway: later they would stand idle one by one until the last is.
    priority: 100
    conda:
        "../envs/recsys.yaml"
    threads: 16
    resources:
        gpu=one_gpu,
    params:
        code=depends_on("measure_efficiency.py"),
        settings=measurement_settings("efficiency"),
    shell:
        "OMP_NUM_THREADS={threads} python workflow/scripts/measure_efficiency.py --settings {params.settings:q} --output {output}"
        " 2>&1 | tee {log}"
