# Whether a study can run here: what it asks of the machines, beside what they have.


rule preflight:
    """Disk and access tokens, and on a machine with GPUs what the study asks of it; nothing is fetched or trained."""
    input:
        expand(MACHINE, environment=ON_GPUS or ["base"]),


rule check_machine:
    """The GPUs and their packages, for all runs that train in one environment; before the first of them, every time."""
    input:
        lambda wildcards: [
            f"{RESULTS}/{experiment}/{variant}/config.yaml"
            for experiment, variant in ON_GPUS.get(wildcards.environment, [])
        ],
    output:
        temp(MACHINE),
    log:
        f"logs/{STUDY.study}/check_machine/{{environment}}.log",
    wildcard_constraints:
        environment=one_of([*ON_GPUS, "base"]),
    priority: 100
    conda:
        "../envs/{environment}.yaml"
    resources:
        gpu=lambda wildcards: max(
            (
                RUNS[experiment][variant].training.gpus
                for experiment, variant in ON_GPUS.get(wildcards.environment, [])
            ),
            default=0,
        ),
    shell:
        "python workflow/scripts/check_machine.py --runs {input} --output {output} 2>&1 | tee {log}"
