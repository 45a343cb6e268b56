"""Faults in one part of a study, each in a copy of a finished one from which that part was removed."""

import random
import shutil
import signal
from pathlib import Path

from campaign import Campaign, Fault
from checkout import DATASET, STUDY, Checkout, mounted, remount

TUNED = f"results/{STUDY}/movie_preference/tuned"
ADAPTER = f"{TUNED}/adapter"
TRAINING_LOG = "train_movie_preference/tuned/training.log"
#: Of a run that is killed after its fifth step, with a checkpoint every second one.
NEWEST, STEP = "checkpoint-4", ": step 5/"
CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json")
RECOMMENDER = f"results/{STUDY}/ssept/ssept/seeds/1"
PAGE = 4096
RAW, PREPARED = f"data/raw/{DATASET}", f"data/prepared/{DATASET}"
PREPARED_FILES = ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")


def without_training(campaign: Campaign, name: str) -> Checkout:
    """A finished study whose tuned adapter is to be trained again."""
    checkout = campaign.finished(name)
    checkout.remove(ADAPTER, f"{TUNED}/history.csv", f"{TUNED}/training.json")
    return checkout


def go_on(campaign: Campaign, fault: Fault, checkout: Checkout, *targets: str) -> None:
    """Continue by the one command, and judge the fault by what it leaves behind."""
    run = checkout.run(*targets)
    fault.command = run.command
    fault.problems += campaign.problems(checkout) if run.process.returncode == 0 else [campaign.failure(run)]
    campaign.judge(fault)


def has_to_fail(campaign: Campaign, fault: Fault, checkout: Checkout, *targets: str) -> None:
    """Run into a fault that Snakemake has to notice, and to leave nothing half-done."""
    run = checkout.run(*targets)
    fault.struck_after = run.seconds
    if run.process.returncode == 0:
        fault.problems.append("the run did not notice the fault")
    fault.problems += campaign.problems(checkout, partial=True)
    fault.said = campaign.failure(run)


def damaged_checkpoints(campaign: Campaign, rng: random.Random) -> None:
    """Each file of the newest checkpoint, cut off and with one bit flipped; training goes on from the one before."""
    killed = without_training(campaign, "killed-in-training")
    struck = kill_in_training(killed, ADAPTER, TRAINING_LOG, STEP)
    for name in CHECKPOINT_FILES:
        for kind in ("truncated", "bit flipped in"):
            checkout = killed.copy(campaign.work / f"{kind.split()[0]}-{name}")
            fault = campaign.fault(f"checkpoint: {kind} {name}", TRAINING_LOG, struck)
            (path,) = checkout.folder.glob(f"checkpoints/{STUDY}/movie_preference/tuned/*/{NEWEST}/{name}")
            damage(path, kind, rng)
            go_on(campaign, fault, checkout, ADAPTER)
            campaign.discard(checkout)
    campaign.discard(killed)


def damaged_best_model(campaign: Campaign, rng: random.Random) -> None:
    """A recommender ends with the weights of its best epoch: those are damaged, and its last checkpoint is not."""
    checkout = campaign.finished("best-model")
    checkout.remove(f"{RECOMMENDER}/model", f"{RECOMMENDER}/history.csv", f"{RECOMMENDER}/training.json")
    log = "train_ssept/ssept/1.log"
    fault = campaign.fault("checkpoint: bit flipped in a recommender's weights", log)
    fault.struck_after = kill_in_training(checkout, f"{RECOMMENDER}/model", log, ": step ")
    for path in checkout.folder.glob(f"checkpoints/{STUDY}/ssept/ssept-1/*/checkpoint-*/model.safetensors"):
        damage(path, "bit flipped in", rng)
    go_on(campaign, fault, checkout, f"{RECOMMENDER}/model")
    campaign.discard(checkout)


def kill_in_training(checkout: Checkout, target: str, log: str, text: str) -> float:
    """Kill a training when ``text`` stands in its log; returns after how many seconds."""
    run = checkout.start(target)
    if not run.wait_for(text, log):
        raise RuntimeError(f"the training never reached '{text}'; see {run.log}")
    run.strike("both", signal.SIGKILL)
    run.wait()
    return run.seconds


def damage(path: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def size_of(folder: Path) -> int:
    """Bytes that a folder's files take in a file system in memory, which has whole pages only."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def full_disk_at_a_checkpoint(campaign: Campaign, rng: random.Random) -> None:
    """Room for one checkpoint and a part of the second."""
    checkout = without_training(campaign, "full-at-checkpoint")
    fault = campaign.fault("disk full at a checkpoint", TRAINING_LOG)
    if campaign.skip_without_mount(fault):
        return
    probe = checkout.copy(campaign.work / "probe")
    kill_in_training(probe, ADAPTER, TRAINING_LOG, ": step 4/")
    one = size_of(next(probe.folder.glob(f"checkpoints/{STUDY}/movie_preference/tuned/*/checkpoint-2")))
    campaign.discard(probe)
    room = int(one * rng.uniform(1.2, 1.9))
    with mounted(checkout.folder / "checkpoints", "-t", "tmpfs", "-o", f"size={room}", "tmpfs"):
        has_to_fail(campaign, fault, checkout, ADAPTER)
        remount(checkout.folder / "checkpoints", "size=1g")
        go_on(campaign, fault, checkout, ADAPTER)
    campaign.discard(checkout)


def full_disk_at_an_output(campaign: Campaign, rng: random.Random) -> None:
    """Room for what is there and a part of what is to come: an adapter, and prepared interactions."""
    for disk, outputs in (
        (TUNED, (ADAPTER, f"{TUNED}/history.csv", f"{TUNED}/training.json")),
        ("data/prepared", [f"{PREPARED}/{name}" for name in PREPARED_FILES]),
    ):
        target = outputs[0]
        checkout = campaign.finished(f"full-at-{Path(target).name}")
        fault = campaign.fault("disk full at an output", target)
        if campaign.skip_without_mount(fault):
            continue
        folder = checkout.folder / disk
        wanted = size_of(folder)
        checkout.remove(*outputs)
        rest = size_of(folder)
        aside = folder.rename(checkout.folder / "aside")
        room = int(rest + (wanted - rest) * rng.uniform(0.1, 0.6))
        with mounted(folder, "-t", "tmpfs", "-o", f"size={room}", "tmpfs"):
            shutil.copytree(aside, folder, dirs_exist_ok=True)
            has_to_fail(campaign, fault, checkout, target)
            remount(folder, "size=1g")
            go_on(campaign, fault, checkout, target)
        campaign.discard(checkout)


def read_only_results(campaign: Campaign, rng: random.Random) -> None:
    """The results cannot be written; then they can."""
    checkout = without_training(campaign, "read-only")
    fault = campaign.fault("read-only results", f"results/{STUDY}")
    if campaign.skip_without_mount(fault):
        return
    with mounted(checkout.results, "--bind", str(checkout.results)):
        remount(checkout.results, "bind,ro")
        has_to_fail(campaign, fault, checkout, ADAPTER)
        remount(checkout.results, "bind,rw")
        go_on(campaign, fault, checkout, ADAPTER)
    campaign.discard(checkout)


def truncated_downloads(campaign: Campaign, rng: random.Random) -> None:
    """A file cut off in the downloads, a server that closes too early, and a kill in the middle of a transfer."""
    target, server = f"{PREPARED}/interactions.parquet", campaign.server

    def offer(name: str, kind: str) -> tuple[Checkout, Fault, Path]:
        checkout = campaign.finished(name)
        checkout.remove(PREPARED, RAW)
        path = checkout.folder / "data/downloads" / server.file.name
        return checkout, campaign.fault(f"download: {kind}", path.name), path

    checkout, fault, path = offer("cut-off", "a truncated file in data/downloads")
    with path.open("rb+") as stream:
        stream.truncate(rng.randrange(path.stat().st_size))
    go_on(campaign, fault, checkout, target)
    campaign.discard(checkout)

    checkout, fault, path = offer("closed-early", "the server closes too early, always")
    path.unlink()
    with server.faulty(rng.uniform(0.1, 0.9)):
        has_to_fail(campaign, fault, checkout, target)
    go_on(campaign, fault, checkout, target)
    campaign.discard(checkout)

    checkout, fault, path = offer("killed-in-download", "killed in the middle of it")
    path.unlink()
    with server.faulty(rng.uniform(0.1, 0.9), stalls=True):
        run = checkout.start(target)
        part = path.with_name(f"{path.name}.part")
        run.wait_until(lambda: part.exists() and part.stat().st_size)
        fault.struck_after = run.seconds
        run.strike("both", signal.SIGKILL)
        run.wait()
    fault.problems += campaign.problems(checkout, partial=True)
    go_on(campaign, fault, checkout, target)
    campaign.discard(checkout)


def deleted_intermediates(campaign: Campaign, rng: random.Random) -> None:
    """A file between two rules, before a run that needs it and in the middle of one."""
    test = f"data/pairs/{STUDY}/movie_preference/tuned/test.jsonl"
    checkout = campaign.finished("deleted-before")
    fault = campaign.fault("deleted before a run: the pairs and the prepared data that they are made of", test)
    checkout.remove(test, f"{PREPARED}/interactions.parquet", f"{TUNED}/metrics.json")
    go_on(campaign, fault, checkout, f"{TUNED}/metrics.json")
    campaign.discard(checkout)

    checkout = without_training(campaign, "deleted-within")
    checkout.remove(f"{TUNED}/metrics.json")
    fault = campaign.fault("deleted during a run: the test pairs, while the model trains", test)
    run = checkout.start(f"{TUNED}/metrics.json")
    run.wait_for(": step 2/", TRAINING_LOG)
    fault.struck_after = run.seconds
    checkout.remove(test)
    run.wait()
    fault.problems += campaign.problems(checkout, partial=True)
    go_on(campaign, fault, checkout, f"{TUNED}/metrics.json")
    campaign.discard(checkout)


def two_at_once(campaign: Campaign, rng: random.Random) -> None:
    """A second Snakemake in the middle of the first one's work, and two that begin together."""
    for moment in ("in the middle of the first", "at the same moment"):
        checkout = without_training(campaign, f"two-{moment.split()[-1]}")
        fault = campaign.fault(f"two Snakemakes: the second {moment}", TRAINING_LOG)
        first = checkout.start(ADAPTER)
        if moment != "at the same moment":
            first.wait_for(": step 1/", TRAINING_LOG)
        fault.struck_after = first.seconds
        second = checkout.start(ADAPTER)
        codes = [first.wait(), second.wait()]
        fault.problems += campaign.problems(checkout, partial=True)
        if 0 not in codes:
            fault.problems.append(f"neither ended well: {campaign.failure(first)}; {campaign.failure(second)}")
        go_on(campaign, fault, checkout, ADAPTER)
        campaign.discard(checkout)
