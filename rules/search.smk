# Better settings of a recommender, found on its validation data: the parts without the test, trials, the best of them.
# Nothing else depends on a search; `make recipe` keeps its best settings for studies to use.

SEARCHES = {name: one.searches for name, one in STUDY.of_kind(RECOMMENDATION).items()}
SEARCH = f"{RUN_FOLDER}/search"


def search_of(wildcards):
    """What the search for a variant's settings is."""
    experiment, variant = wildcards.experiment, wildcards.variant
    if variant not in EXPERIMENTS[experiment].variants:
        known = ", ".join(EXPERIMENTS[experiment].variants)
        refuse(f"experiments.{experiment}.variants", f"there is no variant '{variant}'; there are: {known}")
    if variant not in SEARCHES[experiment]:
        refuse(f"experiments.{experiment}.variants.{variant}.search", "is not there: give it a space and a budget")
    return SEARCHES[experiment][variant]


def searched(wildcards):
    """What all searches of the study find."""
    runs = [(name, variant) for name, of_variants in SEARCHES.items() for variant in of_variants]
    if not runs:
        refuse("experiments", "none of them has a key 'search': give one a space and a budget")
    return [f"{RESULTS}/{name}/{variant}/search/best.yaml" for name, variant in runs]


def without_test(wildcards):
    """The shards that a search reads: those of its run, without the test targets."""
    search_of(wildcards)
    return sequences(wildcards).replace("data/sequences/", "data/search/", 1)


def searched_settings(wildcards):
    """What a search reads, as JSON: the settings that its run trains with, and its own."""
    run = plain(run_of(wildcards), RECOMMENDATION.stages["training"])
    return json.dumps({"run": run, "search": search_of(wildcards).model_dump(mode="json")})


@memory
def search_memory(wildcards):
    """Of the largest trial."""
    run, space = placed_run(wildcards), search_of(wildcards).space
    data = data_shape(run.dataset)
    return data and max(recommender_memory.training_mb(one, data) for one in (run, *largest(run, space)))


rule search:
    """The searches of all variants that have one; `all` is without them."""
    input:
        searched,


rule leave_out_test:
    """Training and validation alone, so that no search can read the test targets."""
    input:
        sequences="data/sequences/{name}/{key}",
    output:
        directory("data/search/{name}/{key}"),
    log:
        "logs/leave_out_test/{name}/{key}.log",
    conda:
        "../envs/recsys.yaml"
    resources:
        mem_mb=of_data(recommender_memory.partition_mb),
    params:
        script=path_of("leave_out_test.py"),
        code=depends_on("leave_out_test.py"),
    shell:
        "python {params.script:q} --sequences {input.sequences} --output {output} 2>&1 | tee {log}"


rule search_settings:
    """The trials of one variant, one after the other. A killed search continues where it was."""
    input:
        sequences=without_test,
        machine=ancient(machine),
    output:
        best=f"{SEARCH}/best.yaml",
        trials=f"{SEARCH}/trials.csv",
        validations=f"{SEARCH}/validations.csv",
    log:
        f"logs/{STUDY.name}/search_{{experiment}}/{{variant}}.log",
    wildcard_constraints:
        experiment=RECOMMENDATION_EXPERIMENTS,
    conda:
        "../envs/recsys.yaml"
    threads: lambda wildcards: run_of(wildcards).training.threads
    resources:
        mem_mb=search_memory,
        gpu=one_gpu,
    params:
        script=path_of("search_settings.py"),
        code=depends_on("search_settings.py"),
        settings=searched_settings,
        checkpoints=f"checkpoints/{STUDY.name}/{{experiment}}/{{variant}}-search",
        folder=lambda wildcards, output: Path(output.best).parent,
    shell:
        "OMP_NUM_THREADS={threads} python {params.script:q} --settings {params.settings:q}"
        " --sequences {input.sequences} --checkpoints {params.checkpoints} --output {params.folder} 2>&1 | tee {log}"
