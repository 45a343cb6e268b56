"""Only the rule `fetch` uses the network: what compute nodes run does without."""

import subprocess

import pytest

pytestmark = pytest.mark.workflow
#: Runs a command in a network of its own, in which there is nothing.
UNPLUGGED = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="session")
def unplugged():
    try:
        subprocess.run([*UNPLUGGED, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system does not let a process have a network of its own: {error}")
    return UNPLUGGED


def test_trainings_and_evaluations_need_no_network(smoke, unplugged):
    study = smoke.study("unplugged")
    targets = ["results/unplugged/climate/tuned/metrics.json", "results/unplugged/ssept/ssept/seeds/1/model"]
    smoke.run(*unplugged, "snakemake", "--cores", "2", "--configfile", study, "--", *targets)
    assert all((smoke.folder / target).exists() for target in targets)
    log = smoke.folder / "logs/unplugged/train_climate/tuned/training.log"
    assert "climate/tuned: step 2/2  loss " in log.read_text()


def test_a_download_does(smoke, unplugged):
    """Or else the test above would prove nothing."""
    command = ["python", "workflow/scripts/fetch_source.py", "--table", "config/models.yaml", "--name"]
    result = smoke.run(*unplugged, *command, "smollm2-135m-instruct", "--output", "unplugged", check=False)
    assert result.returncode == 1
    assert "smollm2-135m-instruct" in result.stderr
    assert not (smoke.folder / "unplugged").exists()
