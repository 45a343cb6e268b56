"""What a user's mistake looks like from outside: one readable message, no traceback, before any job."""

import pytest

pytestmark = pytest.mark.workflow


def failing(checkout, *arguments):
    result = checkout.snakemake(*arguments, check=False)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "Traceback" not in text, text
    return text


def test_an_unknown_key_names_file_key_and_neighbour(checkout):
    study = checkout.study("mistaken", lambda experiments: experiments["movie_preference"]["lora"].update(rr=8))
    text = failing(checkout, "--configfile", study)
    assert "mistaken.yaml: experiments.movie_preference.lora.rr: unknown key" in text


def test_a_mistake_in_a_variant_is_found_before_any_job(checkout):
    def change(experiments):
        experiments["movie_preference"]["variants"]["tuned"] = {"training": {"learning_rat": 1}}

    text = failing(checkout, "--configfile", checkout.study("mistaken", change))
    assert "movie_preference.variants.tuned.training.learning_rat: unknown key; did you mean 'learning_rate'?" in text


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "dataset",
            "experiments.movie_preference.dataset: 'movielens-100' is not known; did you mean 'movielens-100k'?",
        ),
        ("base_model", "experiments.movie_preference.base_model: 'movielens-100' is not known; known: llama-3-8b"),
    ],
)
def test_an_unknown_data_set_or_model(checkout, key, message):
    study = checkout.study(
        "mistaken", lambda experiments: experiments["movie_preference"].update({key: "movielens-100"})
    )
    assert message in failing(checkout, "--configfile", study)


def test_a_key_given_twice(checkout):
    path = checkout.folder / "config/mistaken.yaml"
    path.write_text((checkout.folder / "config/smoke.yaml").read_text() + "\nstudy: other\n")
    assert "the key 'study' is given twice" in failing(checkout, "--configfile", "config/mistaken.yaml")


def test_an_unknown_local_path(checkout):
    study = checkout.study("mistaken", local_paths={"movielens": "/x"})
    assert "local_paths.movielens: no data set or model has this name" in failing(checkout, "--configfile", study)


def test_a_gated_model_without_a_token_stops_before_the_first_job(checkout):
    study = checkout.study(
        "gated", lambda experiments: experiments["movie_preference"].update(base_model="llama-3.2-1b")
    )
    checkout.snakemake("--configfile", study, "--dry-run")  # a plan needs no token
    text = failing(checkout, "--configfile", study, "--", "movie_preference")
    assert "llama-3.2-1b" in text
    assert "HF_TOKEN" in text
    assert not (checkout.folder / "results/gated").exists()


def test_unsloth_without_a_gpu_says_what_to_set(checkout):
    study = checkout.study("unsloth", lambda experiments: experiments["movie_preference"].update(backend="unsloth"))
    assert "backend 'unsloth' needs a GPU: set training.gpus" in failing(checkout, "--configfile", study)


def test_a_cluster_needs_a_number_of_gpus(checkout):
    study = checkout.study("anywhere", lambda experiments: experiments["ssept"]["training"].update(gpus="auto"))
    text = failing(checkout, "--configfile", study, "--executor", "slurm", "--jobs", "1")
    assert (
        "anywhere.yaml: experiments.ssept.training.gpus: 'auto' is for jobs on this machine; on a cluster set it to a "
        "number: 0 trains on CPUs, 1 on a GPU"
    ) in text
