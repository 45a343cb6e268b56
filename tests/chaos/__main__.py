"""The fault campaign: kill, fill, cut off and delete, continue by one command, and compare with an undisturbed run.

`--only` names kinds of faults; without it all are made. The same seed makes the same kills of the same kinds
at the same shares of the study; at which line of code they strike is up to the machine.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/scripts"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign import Campaign
from checkout import download
from kills import random_kills
from parts import (
    damaged_best_model,
    damaged_checkpoints,
    deleted_intermediates,
    full_disk_at_a_checkpoint,
    full_disk_at_an_output,
    read_only_results,
    truncated_downloads,
    two_at_once,
)
from server import FaultyServer

from frugal.errors import FrugalError, run_script
from frugal.files import write_json
from frugal.run.hardware import provenance

SCENARIOS = {
    "kills": (random_kills,),
    "checkpoints": (damaged_checkpoints, damaged_best_model),
    "disk": (full_disk_at_a_checkpoint, full_disk_at_an_output),
    "read-only": (read_only_results,),
    "downloads": (truncated_downloads,),
    "deleted": (deleted_intermediates,),
    "two": (two_at_once,),
}


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=__doc__)
    parser.add_argument("--output", type=Path, help="the record, JSON")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (%(default)s)")
    parser.add_argument("--faults", type=int, default=20, metavar="N", help="random kills (%(default)s)")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this kind of faults; may be repeated")
    parser.add_argument("--cores", type=int, default=2, help="of each Snakemake (%(default)s)")
    parser.add_argument("--work", type=Path, help="an empty folder for the checkouts, which are kept")
    options = parser.parse_args()
    if not download().exists():
        raise FrugalError(f"{download()} is missing; `make chaos` fetches it")
    began = time.monotonic()
    work = options.work or Path(tempfile.mkdtemp(prefix="frugal-chaos-"))
    work.mkdir(parents=True, exist_ok=True)
    kinds = options.only or list(SCENARIOS)
    with FaultyServer(download()) as server:
        campaign = Campaign(work.resolve(), server, options.cores, options.faults, keep=options.work is not None)
        print(f"the undisturbed study, in {work}", file=sys.stderr, flush=True)
        undisturbed = campaign.prepare()
        for scenario in [scenario for kind in kinds for scenario in SCENARIOS[kind]]:
            campaign.attempt(scenario, options.seed)
    outcomes = [fault.outcome for fault in campaign.faults]
    counts = {name: outcomes.count(name) for name in ("recovered", "lost", "undecided", "skipped")}
    record = {
        "faults": len(outcomes) - counts["skipped"],
        **counts,
        "findings": [asdict(finding) for finding in campaign.findings],
        "kinds": kinds,
        "undisturbed_seconds": round(undisturbed, 1),
        "seconds": round(time.monotonic() - began, 1),
        "rows": [fault.row() for fault in campaign.faults],
        "provenance": provenance(options.seed, {}),
    }
    if options.output:
        write_json(options.output, record)
    print(
        f"{record['faults']} faults: {counts['recovered']} recovered, {counts['lost']} lost, "
        f"{counts['undecided']} undecided; {counts['skipped']} skipped; {record['seconds'] / 60:.0f} minutes"
    )
    for finding in campaign.findings:
        print(finding.text())
    if counts["lost"] or campaign.findings:
        print(f"the checkouts are kept in {work}")
        return 1
    if not options.work:
        shutil.rmtree(work)
    if not record["faults"]:
        raise FrugalError(f"no fault could be made: {campaign.no_mount}")
    return None


if __name__ == "__main__":
    run_script(main)
