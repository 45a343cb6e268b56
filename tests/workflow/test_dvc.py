"""The smoke study, versioned by DVC: stored, brought into fresh clones, shown, and made anew after a change."""

import getpass
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from frugal.config.study import read_study
from frugal.versioning.stages import RULES, VersionedStudy

pytestmark = pytest.mark.workflow
STAGE = ("--study", "smoke", "--configfile", "config/smoke.yaml")
REPORT = "results/smoke/report"
REPORT_JOBS = {"make_tables": 1, "plot_figures": 1, "write_report": 1, "report": 1}
WEIGHTS = "results/smoke/climate/tuned/adapter/adapter_model.safetensors"
EXPERIMENTS = ("movie_preference", "ssept", "bert4rec", "wikitext", "climate")
ADAPTERS = ("movie_preference/tuned", "movie_preference/always_a", "movie_preference/next_film")
ADAPTERS += ("wikitext/tuned", "wikitext/continuous", "climate/tuned")


def dvc(checkout, *arguments, **options) -> str:
    return checkout.run(sys.executable, "-m", "dvc", *arguments, **options).stdout


def repro(checkout) -> str:
    """What `dvc repro` and the Snakemakes below it print, in the order of time."""
    command = f"PYTHONUNBUFFERED=1 {sys.executable} -m dvc repro 2>&1"
    return checkout.run("sh", "-c", command).stdout


def changes(checkout) -> list[str]:
    """The files that git finds changed or unknown."""
    return [line[3:] for line in checkout.run("git", "status", "--porcelain").stdout.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files, folder
    return files


def clone_of(repository, folder: Path):
    repository.run("git", "clone", "-q", str(repository.folder), str(folder))
    clone = type(repository)(folder)
    clone.variables = repository.variables
    return clone


def cached_report(clone, **options) -> subprocess.CompletedProcess:
    """`make cached-report`, with the packages that are here already."""
    programs = Path(sys.executable).parent
    command = ["make", "-o", ".venv/ready", f"BIN={programs}", "cached-report", "STUDY=smoke", "CORES=2"]
    return clone.run(*command, **options)


def jobs(text: str, checkout) -> dict[str, int]:
    """rule -> jobs, but for the PDF's, which is made only where LaTeX is installed."""
    found = checkout.jobs(text)
    found.pop("compile_report", None)
    return found


def scramble_times(folder: Path) -> None:
    generator = random.Random(1)
    for path in sorted(folder.rglob("*")):
        moment = generator.uniform(1e9, time.time())
        os.utime(path, (moment, moment))


@pytest.fixture(scope="module")
def versioned(smoke, tmp_path_factory):
    """The finished smoke study in a repository of its own, adopted by `dvc repro` and pushed to the default remote."""
    home = tmp_path_factory.mktemp("home")
    repository = type(smoke)(home / "original")
    shutil.copytree(smoke.folder, repository.folder, symlinks=True)
    person = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    repository.variables = {"HOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull, **person}
    pipeline = repository.folder / "dvc.yaml"
    text = pipeline.read_text(encoding="utf-8")
    smoke_study = "- {study: smoke, config: config/smoke.yaml}"
    pipeline.write_text(text.replace("- {study: laptop, config: config/config.yaml}", smoke_study), encoding="utf-8")
    assert smoke_study in pipeline.read_text(encoding="utf-8")
    (repository.folder / "dvc.lock").unlink(missing_ok=True)
    repository.run("git", "init", "-q")
    repository.run("git", "add", "--all")
    repository.run("git", "commit", "-q", "-m", "The smoke study")
    (home / "repro.log").write_text(repro(repository))
    assert changes(repository) == ["dvc.lock"]
    repository.run("git", "add", "dvc.lock")
    repository.run("git", "commit", "-q", "-m", "Its results")
    dvc(repository, "push")
    return repository


@pytest.fixture(scope="module")
def clone(versioned):
    """A fresh clone in which the report's needs have been pulled, and have the wildest file times."""
    clone = clone_of(versioned, versioned.folder.parent / "clone")
    study = VersionedStudy(read_study(clone.folder / "config/smoke.yaml"))
    dvc(clone, "pull", *map(str, study.report_needs()))
    scramble_times(clone.folder / "data")
    scramble_times(clone.folder / "results")
    return clone


@pytest.fixture(scope="module")
def reported(clone):
    """The clone with its report, made by `make cached-report`, and what was printed."""
    result = cached_report(clone)
    (clone.folder.parent / "cached-report.log").write_text(result.stdout + result.stderr)
    return clone


@pytest.fixture(scope="module")
def complete(reported):
    """The clone with everything else pulled, too."""
    dvc(reported, "pull")
    return reported


def test_every_rule_is_in_exactly_one_stage(checkout):
    listed = checkout.run("snakemake", "--list-rules", "--configfile", "config/smoke.yaml").stdout
    rules = re.findall(r"^(\w+)(?: \(.*\))?$", listed, re.MULTILINE)
    study = VersionedStudy(read_study(checkout.folder / "config/smoke.yaml"))
    assert sorted(rules) == sorted(rule for stage in RULES for rule in study.rules(stage))


def test_the_pipeline_has_the_folders_of_the_stages(checkout):
    pipeline = yaml.safe_load((checkout.folder / "dvc.yaml").read_text(encoding="utf-8"))
    study = VersionedStudy(read_study(checkout.folder / "config/config.yaml"))
    assert pipeline["vars"][0]["study"] == study.study.name
    code = [str(study.code_file(stage)) for stage in RULES]
    assert [
        path.replace("${study}", "laptop") for out in pipeline["stages"].pop("code")["outs"] for path in out
    ] == code
    for name, stage in pipeline["stages"].items():
        assert f"results/${{study}}/dvc/code-{name}.json" in stage["deps"]
        outputs = {path.replace("${study}", study.study.name) for entry in stage["outs"] for path in entry}
        gathered = {path for path in outputs if path.startswith(f"results/{study.study.name}/dvc/")}
        assert outputs - gathered == set(map(str, study.outputs(name)))
        assert all(options["persist"] for entry in stage["outs"] for options in entry.values())
        assert str(study.jobs_file(name)) in gathered or name == "report"


def test_finished_results_are_adopted_and_nothing_is_trained(versioned):
    log = (versioned.folder.parent / "repro.log").read_text()
    assert log.count("Nothing to be done") == 2  # data, train
    assert jobs(log, versioned) == REPORT_JOBS


def test_neither_data_nor_results_are_in_git(versioned):
    tracked = versioned.run("git", "ls-files").stdout.splitlines()
    assert "dvc.lock" in tracked
    assert not [name for name in tracked if name.startswith(("data/", "results/"))]


def test_comments_leave_dvc_repro_nothing_to_do(versioned):
    files = [versioned.folder / name for name in ("rules/common.smk", "workflow/scripts/frugal/llm/trainer.py")]
    kept = [file.read_bytes() for file in files]
    for file, text in zip(files, kept, strict=True):
        file.write_bytes(b"# a comment\n" + text)
    try:
        log = repro(versioned)
    finally:
        for file, text in zip(files, kept, strict=True):
            file.write_bytes(text)
    assert re.findall(r"Running stage '(\w+)'", log) == ["code"]
    assert changes(versioned) == []


def test_a_fresh_clone_makes_the_report_and_nothing_else(versioned, reported):
    log = (reported.folder.parent / "cached-report.log").read_text()
    assert jobs(log, reported) == {"describe_study": 1, **REPORT_JOBS}
    assert contents(reported.folder / REPORT) == contents(versioned.folder / REPORT)
    assert not (reported.folder / "data/raw").exists()
    assert not (reported.folder / "data/models").exists()
    assert changes(reported) == []


def test_plain_snakemake_has_nothing_to_do_either(reported):
    assert reported.plan("config/smoke.yaml") == {}


@pytest.mark.parametrize("file", [WEIGHTS, "results/smoke/ssept/ssept/metrics.json"])
def test_a_missing_file_is_named_and_not_made(reported, file):
    path = reported.folder / file
    kept = path.read_bytes()
    path.unlink()
    try:
        result = reported.run("python", "workflow/scripts/run_stage.py", "report", *STAGE, check=False)
    finally:
        path.write_bytes(kept)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert str(Path(file).parent) in text
    assert "Traceback" not in text
    assert not re.search(r"train_\w+", text)


def test_a_remote_that_lacks_something_is_an_error_that_names_it(versioned, tmp_path):
    clone = clone_of(versioned, tmp_path / "clone")
    dvc(clone, "remote", "modify", "--local", "local", "url", str(tmp_path / "remote"))
    nothing = cached_report(clone, check=False)
    assert nothing.returncode != 0
    assert "error: the DVC remote does not have:\n  data/blocks/smoke" in nothing.stderr
    assert f"{tmp_path}/remote" in nothing.stderr

    shutil.copytree(versioned.folder.parent / "frugal-dvc-remote", tmp_path / "remote")
    lock = dvc(versioned, "list", "--dvc-only", "--recursive", "--show-hash", "--json", ".", str(Path(WEIGHTS).parent))
    digest = next(entry["md5"] for entry in json.loads(lock) if entry["path"].endswith(Path(WEIGHTS).name))
    (tmp_path / "remote/files/md5" / digest[:2] / digest[2:]).unlink()
    one = cached_report(clone, check=False)
    assert one.returncode != 0
    assert f"error: the DVC remote does not have:\n  {WEIGHTS}\nRemotes: local" in one.stderr
    assert "Job stats" not in one.stdout + one.stderr


def test_metrics_and_plots_are_shown(versioned):
    shown = json.loads(dvc(versioned, "metrics", "show", "--json"))[""]["data"]
    for run in ("movie_preference/tuned", "bert4rec/ilora", "ssept/baseline_markov", "climate/base"):
        measured = json.loads((versioned.folder / f"results/smoke/{run}/metrics.json").read_text())["metrics"]
        assert shown[f"results/smoke/dvc/metrics/{run}.json"]["data"] == measured
    dvc(versioned, "plots", "show")
    page = (versioned.folder / "results/dvc_plots/index.html").read_text()
    assert {"Training loss", "Validation NDCG@10 of the recommenders"} <= set(re.findall(r'"title": "([^"]+)"', page))
    assert '"run": "bert4rec, seed 2"' in page
    assert '"run": "continuous"' in page
    assert changes(versioned) == []


def test_everything_pulled_leaves_nothing_to_do(complete):
    for stage in RULES:
        assert "Data and pipelines are up to date" in dvc(complete, "status", stage)
    assert changes(complete) == []


@pytest.mark.parametrize("run", ADAPTERS)
def test_a_pulled_adapter_loads_in_plain_peft(complete, run):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(complete.folder / "data/models/tiny-random-llama")
    folder = complete.folder / "results/smoke" / run
    model = PeftModel.from_pretrained(base, folder / "adapter")
    assert any(weight.abs().sum() > 0 for name, weight in model.named_parameters() if "lora_B" in name)
    assert "base_model:" in (folder / "README.md").read_text()


def test_one_changed_parameter_trains_one_model(versioned, complete):
    study = complete.folder / "config/smoke.yaml"
    text = study.read_text(encoding="utf-8")
    assert text.count("data: {max_users: 80}\n") == 1
    key = "data: {max_users: 80}\n"
    changed = text.replace(key, f"{key}        training: {{num_train_epochs: 1}}\n")
    study.write_text(changed, encoding="utf-8")
    parameters = json.loads(dvc(complete, "params", "diff", "--json"))
    assert parameters == {
        "config/smoke.yaml": {"experiments.ssept.variants.retrain.training.num_train_epochs": {"old": None, "new": 1}}
    }
    log = repro(complete)
    _, data, train, report = (jobs(part, complete) for part in log.split("Running stage ")[1:])
    assert data == {}
    assert train.pop("write_run_config") >= 2  # config.yaml, settings/training.yaml
    assert train == {"train_recommender": 1, "evaluate_recommender": 1, "ssept": 1}
    assert report == REPORT_JOBS
    for experiment in set(EXPERIMENTS) - {"ssept"}:
        folder = f"results/smoke/{experiment}"
        assert contents(complete.folder / folder) == contents(versioned.folder / folder)
    diff = json.loads(dvc(complete, "metrics", "diff", "--json"))
    assert list(diff) == ["results/smoke/dvc/metrics/ssept/retrain.json"]
    assert changes(complete) == ["config/smoke.yaml", "dvc.lock"]


def round_trip(versioned, folder: Path, address: str, **settings) -> None:
    """Push to a remote of one's own, as the README says, and pull from it into a fresh clone."""
    dvc(versioned, "remote", "add", "--local", "--force", "--default", "mine", address)
    for key, value in settings.items():
        dvc(versioned, "remote", "modify", "--local", "mine", key, value)
    experiment = "results/smoke/climate"
    dvc(versioned, "push", experiment)
    clone = clone_of(versioned, folder / "clone")
    shutil.copy(versioned.folder / ".dvc/config.local", clone.folder / ".dvc")
    dvc(clone, "pull", experiment)
    assert contents(clone.folder / experiment) == contents(versioned.folder / experiment)
    assert changes(clone) == []


@pytest.fixture
def own_remote(versioned):
    """Leaves the default remote as it was."""
    yield versioned
    (versioned.folder / ".dvc/config.local").unlink(missing_ok=True)


def test_an_s3_remote(own_remote, tmp_path, monkeypatch):
    pytest.importorskip("dvc_s3", reason="S3 remotes: dvc-s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="S3 remotes: moto, the server of the test, is not installed")
    import requests

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        requests.put(f"{endpoint}/frugal").raise_for_status()
        round_trip(own_remote, tmp_path, "s3://frugal/results", endpointurl=endpoint)
        assert "<Key>results/files/md5/" in requests.get(f"{endpoint}/frugal").text
    finally:
        server.stop()


@pytest.fixture
def sshd(tmp_path):
    """A real sshd on loopback that lets this user in with a key of the test: (port, private key)."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("SSH remotes: there is no sshd (Debian: openssh-server)")
    pytest.importorskip("dvc_ssh", reason="SSH remotes: dvc-ssh is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    with open(tmp_path / "sshd.log", "w") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "sshd.log").read_text()
            time.sleep(0.1)
        yield port, tmp_path / "user"
    finally:
        process.terminate()
        process.wait()


def test_an_ssh_remote(own_remote, sshd, tmp_path):
    port, key = sshd
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/store"
    round_trip(own_remote, tmp_path, address, keyfile=str(key))
    assert (tmp_path / "store/files/md5").is_dir()
