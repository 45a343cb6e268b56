# Better settings of a recommender, found on its validation data: the parts without the test, trials, the best of them.
# Nothing else depends on a search; `make recipe` keeps its best settings for studies to use.

SEARCH = f"{RUN_FOLDER}/search"


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
