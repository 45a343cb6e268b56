"""`make plan`: each job of a study with its time, energy and cost on a device, before anything is downloaded."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import plan_study as script
from frugal.config.devices import load_devices
from frugal.config.study import read_study
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.planning.gpu_memory import PARTS, gpu_memory, memory_lines
from frugal.planning.study import plan_study
from frugal.planning.text import aligned, totals_text
from frugal.planning.utilisation import measured_runs
from frugal.planning.work import START_SECONDS, Work, seconds

DEVICES = load_devices()
FULL = Path("config/full.yaml").resolve()
MINE = {"mine": {"title": "Mine", "sources": [{"path": "/models/mine"}]}}


@pytest.fixture
def full_study(tmp_path):
    """The full study with changes to `movie_preference`."""

    def write(**changes):
        data = yaml.safe_load(Path("config/full.yaml").read_text())
        data["experiments"]["movie_preference"].update(changes)
        data["models"] = MINE
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


def plan_of(file, device="h100", root=Path("/nowhere"), runs=(), **options):
    return plan_study(read_study(file), DEVICES[device], 2, runs, root, **options)


def job_of(plan, name, stage="training"):
    return next(one for one in plan.jobs if one.job.key == (name, stage))


def training(**changes):
    """The full study's settings of the training of `movie_preference`, with all logits at once, changed."""
    settings = yaml.safe_load(Path("config/full.yaml").read_text())["experiments"]["movie_preference"]["training"]
    return {**settings, "loss_chunk_tokens": None, **changes}


# Time


def test_seconds_of_a_job_by_hand():
    work = Work({"bfloat16": 989e12 * 9}, slowdown=2, launches=500, read_bytes=4800e9)
    loop, whole = seconds(work, DEVICES["h200"], 1, 0.45)
    # 9 s at the peak, twice as long, at .45 of it; 500 launches of 2 ms; 4.8 TB at .6 of the bandwidth
    assert loop == pytest.approx(9 * 2 / 0.45 + 1 + 1 / 0.6)
    assert whole == loop + START_SECONDS
    # Two dtypes, two cores, and scores that are ranked at 5e-8 s
    core = DEVICES["cpu-avx512-bf16"]
    loop, _ = seconds(Work({"float32": 93.5e9, "bfloat16": 420e9}, scores=4e7), core, 2, 0.5)
    assert loop == pytest.approx((0.5 + 1) / 0.5 + 1)


def test_energy_and_cost_follow_from_the_time(full_study):
    plan = plan_of(full_study(), price=2.5)
    one = job_of(plan, "wikitext/tuned")
    assert one.kwh == pytest.approx(one.seconds * 700 / 3.6e6)
    assert one.cost == pytest.approx(one.seconds / 3600 * 2.5)
    totals = plan.totals(1)
    assert totals["cost"] == pytest.approx(totals["device_seconds"] / 3600 * 2.5)
    assert totals["side_by_side_seconds"] == pytest.approx(totals["device_seconds"])
    assert totals["critical_path_seconds"] <= plan.totals(2)["side_by_side_seconds"] < totals["device_seconds"]


def test_a_jobs_flops_by_hand(full_study):
    # 3 epochs of (10,918,000 / 4.45) tokens, 4 FLOPs for each weight, of which none is an embedding alone; 2,396 blocks
    # are 599 batches, and 8 validations on 16,384 tokens every 200 of 3 x 599 steps.
    one = job_of(plan_of(full_study()), "wikitext/tuned").job
    tokens, weights = 10_918_000 / 4.45, 1_235_814_400
    assert one.work.flops == {"bfloat16": pytest.approx(3 * 4 * weights * tokens + 8 * 2 * weights * 16_384)}
    assert one.weights == weights
    assert one.work.slowdown == pytest.approx(1.15 * 1.27)  # NF4, and recomputation


def test_trainings_with_seeds_and_what_waits_for_them(full_study):
    plan = plan_of(full_study())
    names = [one.job.name for one in plan.jobs if one.job.name.startswith("ssept/retrain")]
    assert names == [f"ssept/retrain seed {seed}" for seed in (1, 2, 3)] + ["ssept/retrain"]
    assert job_of(plan, "ssept/retrain seed 2").job.after == (("ssept/ssept seed 2", "training"),)
    assert job_of(plan, "ssept/retrain", "evaluation").job.after == tuple((name, "training") for name in names[:3])
    assert job_of(plan, "wikitext/base", "evaluation").job.after == ()


def test_larger_models_and_smaller_devices_take_longer(full_study):
    file = full_study()
    small, large = (job_of(plan_of(file), f"bert4rec/{size} seed 1") for size in ("85m", "430m"))
    assert 3 < large.seconds / small.seconds < 8
    slow = job_of(plan_of(file, "l4"), "bert4rec/430m seed 1")
    assert 2 < slow.loop_seconds / large.loop_seconds < 989 / 121  # launches take as long


def test_a_study_of_the_cpu_is_planned_on_its_cores():
    plan = plan_of("config/config.yaml", "cpu-avx512-bf16")
    assert not plan.unplanned
    assert all(one.fits is None for one in plan.jobs)
    assert job_of(plan, "wikitext/tuned").job.devices == 2
    assert job_of(plan, "bert4rec/sasrec seed 1").job.devices == 1
    # As `auto` chooses: a narrow model in float32, its loss in bfloat16; on AVX2 all in float32
    assert job_of(plan, "bert4rec/sasrec seed 1").job.work.flops.keys() == {"float32", "bfloat16"}
    older = plan_of("config/config.yaml", "cpu-avx2")
    assert all(one.job.work.flops.keys() == {"float32"} for one in older.jobs)


@pytest.mark.parametrize("device", ["t4", "rtx-3090"])
def test_the_workstation_study_takes_about_two_hours_and_8_gb(device):
    plan = plan_of("config/workstation.yaml", device)
    assert not plan.unplanned
    assert 1.5 < plan.totals(1)["device_seconds"] / 3600 < 2.5
    assert max(one.job.memory_mb for one in plan.jobs) <= 0.95 * 8 * 1024
    # A T4 has no bfloat16
    dtypes = {dtype for one in plan.jobs for dtype in one.job.work.flops}
    assert dtypes == {"float16" if device == "t4" else "bfloat16"}


# What cannot be planned


def test_a_job_of_unknown_size_is_named_and_in_no_total(full_study):
    plan = plan_of(full_study())
    assert {job.name for job in plan.unplanned} == {"climate/base", "climate/tuned"}
    assert all("the size of climate-reports is not known" in job.problem for job in plan.unplanned)
    assert plan.totals(1)["unplanned"] == 3
    assert not [one for one in plan.jobs if one.job.name.startswith("climate")]


def test_a_dtype_that_the_device_lacks_says_what_to_set(full_study):
    plan = plan_of(full_study(), "t4")
    reasons = {job.name: job.problem for job in plan.unplanned}
    assert "model.compute_dtype is bfloat16" in reasons["wikitext/tuned"]
    assert "set it to 'float16' or 'auto'" in reasons["wikitext/tuned"]
    assert "training.precision is bfloat16" in reasons["bert4rec/85m seed 1"]
    assert job_of(plan, "ssept/ssept seed 1").job.work.flops.keys() == {"float16"}


def test_jobs_that_do_not_fit(full_study):
    plan = plan_of(full_study(training=training(per_device_train_batch_size=8)), "rtx-4090")
    assert "movie_preference/tuned" in {one.job.name for one in plan.too_large}
    fitting = plan_of(full_study(training=training(per_device_train_batch_size=8)), "h200")
    assert not fitting.too_large


# Measured shares


def finished(root, study, variant, share, instructions="AVX-512 BF16", **training):
    """The files of a finished training of `wikitext` of the laptop study, at ``share`` of the peak."""
    folder = root / "results" / study / "wikitext" / variant
    folder.mkdir(parents=True)
    run = read_study("config/config.yaml").experiments["wikitext"].runs["tuned"].model_dump(mode="json")
    run["training"].update(training)
    (folder / "config.yaml").write_text(yaml.safe_dump(run))
    record = {"matmul_peak_share": share, "parameters": 135_436_608}
    hardware = {"instructions": instructions, "gpus": []}
    (folder / "metrics.json").write_text(json.dumps({"training": record, "provenance": {"hardware": hardware}}))


def test_finished_runs_of_the_same_kind_and_device_give_the_share(tmp_path):
    finished(tmp_path, "laptop", "tuned", 0.4)
    finished(tmp_path, "laptop", "slow", 0.3, gradient_checkpointing=True)
    finished(tmp_path, "laptop", "other", 0.2, instructions="AMX")
    (tmp_path / "results/laptop/wikitext/broken").mkdir()
    (tmp_path / "results/laptop/wikitext/broken/metrics.json").write_text("{")
    finished(tmp_path, "laptop", "untrained", 0.5)
    untrained = tmp_path / "results/laptop/wikitext/untrained/metrics.json"
    untrained.write_text(json.dumps({**json.loads(untrained.read_text()), "training": None}))
    runs = measured_runs(tmp_path)
    assert [one.share for one in runs] == [0.2, pytest.approx(0.3 * 1.27), 0.4]
    plan = plan_of("config/config.yaml", "cpu-avx512-bf16", runs=runs)
    assert job_of(plan, "climate/tuned").share.value == pytest.approx((0.3 * 1.27 + 0.4) / 2)
    assert job_of(plan, "climate/tuned").share.source.startswith("measured: results/laptop/wikitext/slow, results/")
    assert job_of(plan, "movie_preference/tuned").share.source == "default"  # of another kind
    # An 8B model is no neighbour of one with 135M, and a GPU no CPU
    assert job_of(plan_of("config/full.yaml", "cpu-amx", runs=runs), "wikitext/tuned").share.source == "default"
    assert job_of(plan_of("config/config.yaml", "h100", runs=runs), "climate/tuned").share.source == "default"


# The memory of language models' trainings


def memory_of(file, root):
    rows = gpu_memory(read_study(file), root)
    (row,) = (row for row in rows if row["run"] == "movie_preference/tuned")
    return row


def test_the_full_studys_memory_is_known_without_any_model(full_study, tmp_path):
    rows = gpu_memory(read_study(full_study()), tmp_path)
    assert all("unknown" not in row for row in rows)
    row = memory_of(full_study(training=training(per_device_train_batch_size=1)), tmp_path / "no-models")
    assert (row["model"], row["method"], row["batch_size"], row["sequence_length"]) == ("llama-3-8b", "QLoRA", 1, 2048)
    # By hand: 6,979,321,856 linear weights at 4.127 bits, 1,050,939,392 others at 16, 41,943,040 adapters at 32:
    # 3.353 + 1.958 + 0.156 GB.
    assert row["gb"]["weights"] == pytest.approx(5.467, abs=0.006)
    assert row["gb"]["logits"] == pytest.approx(12 * 2048 * 128256 / 2**30, abs=0.006)
    assert row["fits"] == {"8": False, "16": True, "24": True, "40": True, "80": True}


def test_a_larger_batch_does_not_fit_the_smaller_gpus(full_study, tmp_path):
    row = memory_of(full_study(training=training(per_device_train_batch_size=8)), tmp_path)
    total = row["gb"]["total"]
    assert row["fits"] == {str(size): total <= 0.95 * size for size in (8, 16, 24, 40, 80)}
    assert row["fits"]["80"]
    assert not row["fits"]["24"]


def test_a_prepared_model_is_read_from_its_folder(full_study, tmp_path, tiny_model_folder):
    (tmp_path / "mine").mkdir()
    shutil.copy(tiny_model_folder / "config.json", tmp_path / "mine")
    row = memory_of(full_study(base_model="mine"), tmp_path)
    assert row["gb"]["weights"] < 0.01
    # The same shape, drawn at random and not prepared yet
    assert memory_of(full_study(base_model="tiny-random-llama"), tmp_path)["gb"] == row["gb"]


def test_an_unknown_shape_is_named_in_both_tables(full_study, tmp_path):
    file = full_study(base_model="mine")
    reason = "the shape of mine is not known before it is fetched: snakemake models"
    row = memory_of(file, tmp_path)
    assert row["unknown"] == reason
    assert reason in aligned(memory_lines([row]), words=4)
    assert reason in {job.problem for job in plan_of(file).unplanned}


def test_a_broken_configuration_is_named(full_study, tmp_path):
    (tmp_path / "llama-3-8b").mkdir()
    (tmp_path / "llama-3-8b" / "config.json").write_text("{")
    with pytest.raises(FrugalError, match=r"llama-3-8b/config\.json: not a model's configuration"):
        memory_of(full_study(), tmp_path)


def test_the_table_is_aligned():
    shared = {"method": "LoRA", "device": "GPU", "batch_size": 1, "sequence_length": 512}
    known = {"run": "wikitext/tuned", "model": "m", **shared, "gb": dict.fromkeys(PARTS, 1.5)}
    known["fits"] = {"8": False, "16": False, "24": True, "40": True, "80": True}
    other = {"run": "a/b", "model": "longer", **shared, "unknown": "its shape is not known"}
    head, first, second = aligned(memory_lines([known, other]), words=4).splitlines()
    assert first.startswith("wikitext/tuned  m       LoRA    GPU")
    assert second.startswith("a/b             longer  LoRA    GPU")
    assert head.index("8 GB") + len("8 GB") == first.index(" no") + len(" no")  # numbers stand right
    assert first.split()[-5:] == ["no", "no", "fits", "fits", "fits"]


# The command


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the script on the full study, in a folder without data or results; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["plan_study.py", f"--configfile={FULL}", *map(str, arguments)])
        script.main()
        return capsys.readouterr().out

    return run


def test_the_command_prints_and_writes(command, tmp_path):
    output = tmp_path / "plan.json"
    printed = command("--device=h100", "--gpus=2", "--price=2.50", "--json", output)
    assert "full on h100 (NVIDIA H100 SXM, 700 W): expected, not measured." in printed
    assert "ssept/retrain (3 seeds, each)" in printed
    assert "With 2 GPUs side by side: " in printed
    assert "3 jobs could not be planned, and the totals are without them:" in printed
    assert "one fits where it leaves 5% free" in printed
    written = read_json(output)
    assert written["totals"]["cost"] == pytest.approx(sum(job["cost"] for job in written["jobs"]), rel=1e-3)
    assert [job["problem"].split(" of ")[0] for job in written["unplanned"]] == ["the size"] * 3
    assert written["totals"]["devices"] == 2


def test_a_training_on_several_gpus_shares_its_work(full_study):
    one, four = (plan_of(full_study(backend="transformers", training=training(gpus=number))) for number in (1, 4))
    single, shared = (job_of(plan, "movie_preference/tuned") for plan in (one, four))
    assert shared.job.devices == 4
    assert shared.loop_seconds == pytest.approx(single.loop_seconds / 4, rel=2e-3)  # the last batch is not full
    text = totals_text(four, four.totals(2), "GPUs")
    assert "More than 2 at once, which these times take for granted: " in text
    assert "movie_preference/tuned 4" in text
    assert "More than" not in totals_text(four, four.totals(4), "GPUs")


def test_without_a_device_the_smallest_gpu_that_runs_most_is_taken(command):
    printed = command()
    assert "The same study on each GPU of config/devices.yaml" in printed
    name = printed.split(" on ")[1].split(" ")[0]
    plan = plan_of(FULL, name)
    smaller = [
        one for one, device in DEVICES.items() if device.kind == "gpu" and device.memory_gb < plan.device.memory_gb
    ]
    failing = len(plan.too_large) + len(plan.unplanned)
    for one in smaller:
        other = plan_of(FULL, one)
        assert len(other.too_large) + len(other.unplanned) > failing


def test_another_power_changes_the_energy(command, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    command("--device=h100", "--json", files[0])
    command("--device=h100", "--power=350", "--json", files[1])
    full, half = (read_json(file)["totals"]["kwh"] for file in files)
    assert half == pytest.approx(full / 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--price=-1", "--price: must be a number 0 or more, got '-1'"),
        ("--price=nan", "--price: must be a number 0 or more, got 'nan'"),
        ("--power=-5", "--power: must be a number above 0, got '-5'"),
        ("--power=0", "--power: must be a number above 0, got '0'"),
        ("--gpus=0", "--gpus: must be a whole number from 1 to 100000, got '0'"),
        ("--gpus=two", "--gpus: must be a whole number from 1 to 100000, got 'two'"),
        ("--device=h10O", "there is no device 'h10O'; did you mean 'h100'"),
    ],
)
def test_what_cannot_be_meant_is_refused(command, option, message):
    with pytest.raises(FrugalError) as refused:
        command(option)
    assert message in str(refused.value)
