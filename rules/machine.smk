# Whether a study can run here: what it asks of the machines, beside what they have.


rule preflight:
    """Disk and access tokens, and on a machine with GPUs what the study asks of it; nothing is fetched or trained."""
    input:
        expand(MACHINE, environment=ENVIRONMENTS),


rule check_machine:
    """The GPUs and their packages, for all runs that train in one environment; before the first of them, every time."""
    input:
        lambda wildcards: [
            f"{RESULTS}/{experiment}/{variant}/config.yaml" for experiment, variant in gpu_runs(wildcards)
        ],
    output:
        temp(MACHINE),
    log:
        f"logs/{STUDY.name}/check_machine/{{environment}}.log",
    wildcard_constraints:
        environment=one_of(ENVIRONMENTS),
    priority: 100
    conda:
        lambda wildcards: f"../{ENVIRONMENTS[wildcards.environment]}"
    resources:
        mem_mb=CHECK_MB,
        gpu=lambda wildcards: max(
            (
                resolve_gpus(EXPERIMENTS[experiment].runs[variant], AUTO_GPUS).training.gpus
                for experiment, variant in gpu_runs(wildcards)
            ),
            default=0,
        ),
    params:
        script=path_of("check_machine.py"),
        models=table_json("models", {name: MODELS[name] for name in sorted(BASE_MODELS)} or MODELS),
    shell:
        "python {params.script:q} --runs {input} --table {params.models:q} --output {output} 2>&1 | tee {log}"
