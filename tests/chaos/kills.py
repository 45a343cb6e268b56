"""Kills at random points of a whole study: Snakemake, a job or both, by SIGKILL or SIGTERM, one after another."""

import math
import random
import signal

import psutil
from campaign import Campaign, Fault
from checkout import Checkout, Run

KINDS = [(target, number) for number in (signal.SIGKILL, signal.SIGTERM) for target in ("snakemake", "job", "both")]
#: The share of kills that strike while Snakemake begins; the others strike while a job runs.
EARLY = 0.15
LONGEST_DELAY = 3.0
#: Seconds that a job may need to notice that its Snakemake has gone: its imports come first.
ORPHANS = 30.0
#: Seconds that Snakemake has after SIGTERM; it needs ten at most. SIGKILL follows, as from SLURM or a service manager.
GRACE = 30.0
#: Seconds between two looks at how far a study is; looking costs time that the study needs.
LOOK = 0.2


def random_kills(campaign: Campaign, rng: random.Random) -> None:
    """One study, killed and continued until it is done; another one, should it be done before all kills.

    A kill's point is drawn as the share of all jobs that have begun, so that the kills are spread over the study
    however fast the machine is, and some time after that.
    """
    count = campaign.kills
    kinds = (KINDS * math.ceil(count / len(KINDS)))[:count]
    rng.shuffle(kinds)
    points = sorted(rng.random() for _ in range(count))
    pending: list[Fault] = []
    checkout = campaign.fresh("kills")
    run = checkout.start()
    for number, ((target, sign), point) in enumerate(zip(kinds, points, strict=True)):
        early = target != "job" and rng.random() < EARLY
        if not wait_for_point(run, rng, None if early else point * campaign.jobs):
            finish(campaign, checkout, run, pending)
            pending, checkout = [], campaign.fresh(f"kills-{number}")
            run = checkout.start()
            wait_for_point(run, rng, 0)
        fault = campaign.fault(f"{sign.name} to {'Snakemake and jobs' if target == 'both' else target}")
        fault.where = ", ".join(sorted(set(run.jobs().values()))) or "no job"
        fault.struck_after = run.seconds
        jobs = strike_until_the_end(run, fault, target, sign)
        fault.problems += campaign.problems(checkout, partial=True)
        run = checkout.start()
        fault.command = run.command
        _, alive = psutil.wait_procs(jobs, timeout=ORPHANS)
        fault.problems += [f"{process} lives on without its Snakemake" for process in alive]
        campaign.say(fault, "continuing")
        pending.append(fault)
    finish(campaign, checkout, run, pending)


def wait_for_point(run: Run, rng: random.Random, begun: float | None) -> bool:
    """Wait for so many begun jobs, and a moment more; None waits for that moment only. False if the run ends."""
    if begun is not None and not run.wait_until(lambda: run.checkout.logs() >= begun and run.jobs(), LOOK):
        return False
    until = run.seconds + rng.uniform(0, LONGEST_DELAY)
    return run.wait_until(lambda: run.seconds >= until)


def strike_until_the_end(run: Run, fault: Fault, target: str, sign: signal.Signals) -> set[psutil.Process]:
    """Strike, and again where the job had done its work already and Snakemake went on; returns the jobs that ran."""
    known: set[psutil.Process] = set()

    def others() -> set[psutil.Process]:
        return set(run.jobs()) - known

    while run.wait_until(others if target == "job" else lambda: True, LOOK):
        known |= set(run.strike(target, sign))
        if target != "job" and not run.ends_within(GRACE):
            fault.said = f"still there {GRACE:g} s after {sign.name}: SIGKILL"
            run.strike(target, signal.SIGKILL)
            run.wait()
    return known


def finish(campaign: Campaign, checkout: Checkout, run: Run, faults: list[Fault]) -> None:
    """Let the study end, and judge its faults by what they have left behind together.

    A difference is one finding: which of the faults caused it, if any, is not known.
    """
    code = run.wait()
    problems = campaign.problems(checkout) if code == 0 else [campaign.failure(run)]
    if not problems:
        problems = campaign.problems_of_report(checkout)
    for fault in faults:
        campaign.judge(fault)
    if problems:
        campaign.find(checkout, problems, faults)
