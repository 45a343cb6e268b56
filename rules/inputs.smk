# What a job reads: the files that its run names, and those of the runs that it builds on.

from frugal.data.source.fetch import members_of, place_of
from frugal.files import in_full, sha256_file

HASHED = 256 << 20
SEED = f"{RUN_FOLDER}/seeds/{{seed}}"


def own_content(wildcards):
    """A hash of the user's files that a data set or model is copied from: when one changes, it is copied again.

    Of files above `HASHED` the size and the time stand for the content, because every start of Snakemake looks at them.
    """
    entry = DATASETS.get(wildcards.name) or MODELS[wildcards.name]
    source = entry.sources[0]
    try:
        if local := STUDY.local_paths.get(wildcards.name):
            path = in_full(local)
        elif source_kind(source) == "path":
            path = place_of(source)
        else:
            return ""
        files = [file for file, _ in members_of(source, path).values()] if path.is_dir() else [path]
        return settings_hash([[file.name, content_of(file)] for file in files])
    except (FrugalError, OSError):  # what is missing is the job's to report
        return ""


def content_of(file):
    """What stands for a file's content."""
    state = file.stat()
    return sha256_file(file) if state.st_size <= HASHED else [state.st_size, state.st_mtime_ns]


def base_model(wildcards):
    """The folder of a run's base model."""
    return f"data/models/{run_of(wildcards).base_model}"


def prepared(file):
    """A file of the data set that a run reads."""
    return lambda wildcards: f"data/prepared/{run_of(wildcards).dataset}/{file}"


def of_trained(file):
    """A file that training leaves behind; the base model has none."""

    def path(wildcards):
        if wildcards.variant == BASE:
            return []
        return f"{RESULTS}/{wildcards.experiment}/{wildcards.variant}/{file}"

    return path


def trained_options(wildcards, input):
    """The options that hand an adapter and its training record to an evaluation; none for the base model."""
    return f"--adapter {input.adapter} --training {input.training}" if input.adapter else ""


def test_texts(wildcards):
    """The texts that a run is tested on; the untuned model reads a variant's, if they are cut alike."""
    one, variant = EXPERIMENTS[wildcards.experiment], wildcards.variant
    keys = LANGUAGE_MODELING.stages["blocks"]
    if variant == BASE and plain(one.shared, keys) == plain(one.runs[one.principal], keys):
        variant = one.principal
    return f"data/blocks/{STUDY.name}/{wildcards.experiment}/{variant}/test.parquet"


def gpu_runs(wildcards):
    """The runs that train on GPUs in one environment."""
    return ON_GPUS.get(ENVIRONMENTS[wildcards.environment], [])


def shards_of(run):
    """The folder of a run's shards; runs that cut their data alike share it."""
    return f"data/sequences/{run.dataset}/{sequence_key(run)}"


def sequence_key(run):
    """How the data is cut, short enough for a folder's name."""
    settings = run.data.model_dump(mode="json", exclude={"fraction"})
    return f"{run.data.split}-{settings_hash(settings)}"


SEQUENCES = {
    (run.dataset, sequence_key(run)): run.data
    for experiment in STUDY.of_kind(RECOMMENDATION).values()
    for run in (experiment.shared, *experiment.runs.values())
}


def sequences(wildcards):
    """The shards that a run reads."""
    return shards_of(run_of(wildcards))


def starting_weights(wildcards, seed):
    """The model of another variant that a run starts from."""
    start = run_of(wildcards).warm_start
    return f"{RESULTS}/{start.experiment or wildcards.experiment}/{start.variant}/seeds/{seed}/model"


def warm_start(wildcards):
    """The weights that a run begins with: those of another variant and the same seed, or a file of the user's."""
    start = run_of(wildcards).warm_start
    if start is None:
        return []
    if start.path:
        return start.path
    return starting_weights(wildcards, wildcards.seed)


def of_seeds(file):
    """A file of every seed of a run."""
    return lambda wildcards: expand(f"{SEED}/{file}", seed=run_of(wildcards).seeds, allow_missing=True)


def backbones(wildcards):
    """The models below a run's adapters, one for each seed."""
    run = run_of(wildcards)
    if run.adapter.method == "none":
        return []
    return [starting_weights(wildcards, seed) for seed in run.seeds]


# Experiment -> variant -> the search for its settings.
SEARCHES = {name: one.searches for name, one in STUDY.of_kind(RECOMMENDATION).items()}


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
