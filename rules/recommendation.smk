# A recommender learns from histories: shards, models, one for each seed, rankings, baselines, efficiency.

RECOMMENDATION_EXPERIMENTS = one_of(STUDY.of_kind(RECOMMENDATION))
RESULTS_OF[RECOMMENDATION] = lambda one: [
    *expand(
        "{run}/{file}",
        run=[*one.runs, *one.baseline_runs],
        file=["metrics.json", "predictions.parquet", "beyond.json", "groups.parquet"],
    ),
    *expand("{variant}/config.yaml", variant=one.variants),
    *(["efficiency/measurements.json"] if one.efficiency else []),
]


rule partition_interactions:
    """Each user's history, cut into training, validation and evaluation: NPZ shards."""
    input:
        interactions="data/prepared/{name}/interactions.parquet",
        catalogue="data/prepared/{name}/items.parquet",
        summary="data/prepared/{name}/summary.json",
    output:
        directory("data/sequences/{name}/{key}"),
    log:
        "logs/partition_interactions/{name}/{key}.log",
    conda:
        "../envs/recsys.yaml"
    resources:
        mem_mb=of_data(recommender_memory.partition_mb),
    params:
        script=path_of("partition_interactions.py"),
        code=depends_on("partition_interactions.py"),
        settings=lambda wildcards: SEQUENCES[wildcards.name, wildcards.key].model_dump_json(),
    shell:
        "python {params.script:q} --interactions {input.interactions}"
        " --items {input.catalogue} --summary {input.summary}"
        " --settings {params.settings:q} --output {output} 2>&1 | tee {log}"


rule train_recommender:
    """One variant with one seed. A killed run continues from its checkpoint."""
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
        f"logs/{STUDY.name}/train_{{experiment}}/{{variant}}/{{seed}}.log",
    benchmark:
        f"logs/{STUDY.name}/train_{{experiment}}/{{variant}}/{{seed}}.benchmark.tsv"
    wildcard_constraints:
        experiment=RECOMMENDATION_EXPERIMENTS,
    # Before the short jobs, which fill what the last training leaves idle.
    priority: 1
    conda:
        "../envs/recsys.yaml"
    threads: lambda wildcards: run_of(wildcards).training.threads
    resources:
        **SEVERAL_MACHINES,
        mem_mb=of_recommender(recommender_memory.training_mb),
        gpu=gpus,
    params:
        code=training_code,
        script=training_path,
        launcher=launcher,
        warm_start=lambda wildcards, input: f"--warm-start {quote(input.warm_start)}" if input.warm_start else "",
        checkpoints=f"checkpoints/{STUDY.name}/{{experiment}}/{{variant}}-{{seed}}",
        profile=f"logs/{STUDY.name}/train_{{experiment}}/{{variant}}/{{seed}}.profile",
    shell:
        "OMP_NUM_THREADS={threads} {params.launcher} {params.script:q}"
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
        users=prepared("users.parquet"),
    output:
        metrics=f"{RUN_FOLDER}/metrics.json",
        predictions=f"{RUN_FOLDER}/predictions.parquet",
        lists=f"{RUN_FOLDER}/beyond.json",
        groups=f"{RUN_FOLDER}/groups.parquet",
    log:
        f"logs/{STUDY.name}/evaluate_{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=RECOMMENDATION_EXPERIMENTS,
        variant=NO_BASELINE,
    conda:
        "../envs/recsys.yaml"
    threads: lambda wildcards: run_of(wildcards).training.threads
    resources:
        mem_mb=of_recommender(recommender_memory.evaluation_mb),
        gpu=one_gpu,
    params:
        script=path_of("evaluate_recommender.py"),
        code=depends_on("evaluate_recommender.py"),
        backbones=lambda wildcards, input: f"--backbones {input.backbones}" if input.backbones else "",
        folder=lambda wildcards, output: Path(output.lists).parent,
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q}"
        " --config {input.config} --sequences {input.sequences}"
        " --models {input.models} --training {input.training} {params.backbones} --users {input.users}"
        " --metrics {output.metrics} --predictions {output.predictions} --lists {params.folder} 2>&1 | tee {log}"


rule score_recommender_baselines:
    """The same test users by baselines: popularity, ItemKNN, EASE, recency, Markov."""
    input:
        config=f"{RESULTS}/{{experiment}}/{BASE}/settings/baselines.yaml",
        sequences=sequences,
        users=prepared("users.parquet"),
    output:
        expand(
            f"{RESULTS}/{{experiment}}/baseline_{{name}}/{{file}}",
            name=RECOMMENDATION.baselines,
            file=["metrics.json", "predictions.parquet", "beyond.json", "groups.parquet"],
            allow_missing=True,
        ),
    log:
        f"logs/{STUDY.name}/score_{{experiment}}_baselines.log",
    wildcard_constraints:
        experiment=RECOMMENDATION_EXPERIMENTS,
    conda:
        "../envs/recsys.yaml"
    resources:
        mem_mb=of_recommender(within_limit(recommender_memory.baselines_mb)),
    params:
        script=path_of("score_recommender_baselines.py"),
        code=depends_on("score_recommender_baselines.py"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --config {input.config}"
        " --sequences {input.sequences} --users {input.users}"
        " --memory-mb {resources.mem_mb} --results {params.folder} 2>&1 | tee {log}"


rule measure_efficiency:
    """Speed and memory of each size and mode, each in a process of its own; no other job on up to 16 cores."""
    output:
        f"{RESULTS}/{{experiment}}/efficiency/measurements.json",
    log:
        f"logs/{STUDY.name}/measure_{{experiment}}_efficiency.log",
    wildcard_constraints:
        experiment=RECOMMENDATION_EXPERIMENTS,
    # First, while all cores are free anyway: later they would stand idle one by one until the last is.
    priority: 100
    conda:
        "../envs/recsys.yaml"
    threads: 16
    resources:
        mem_mb=efficiency_memory,
        gpu=one_gpu,
    params:
        script=path_of("measure_efficiency.py"),
        code=depends_on("measure_efficiency.py"),
        settings=measurement_settings("efficiency"),
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --settings {params.settings:q} --output {output}"
        " 2>&1 | tee {log}"
