"""The sources of the tables on recommenders."""

from typing import Any

import pandas as pd

from .sources import (
    PROVENANCE,
    Cell,
    Source,
    compared,
    minutes,
    principal,
    score,
    setting,
    summary,
    tie_order,
    told,
    trained,
)
from .statistics import FEW, Cases, by_user, holm, is_bound, is_p, verdict
from .study import BASELINE, mentions


def alike(cell: Cell) -> list[str]:
    """The runs whose data a row of the data table is about."""
    names = ("min_rating", "max_users", "fraction")

    def same(run: str) -> bool:
        config = cell.study.config(cell.experiment, run)
        wanted = [config["data"].get(name) for name in names]
        given = [None if cell.row[name] != cell.row[name] else cell.row[name] for name in names]
        return config["dataset"] == cell.row["dataset"] and wanted == given

    return [run for run in cell.study.trained(cell.experiment) if same(run)]


def of_alike(read) -> Source:
    """A value that one of these runs must have."""
    return lambda cell: any(read(cell, run) == cell.shown for run in alike(cell))


def cut_off(cell: Cell) -> float | None:
    """HR, or HR_lower, at the row's k."""
    name, _, part = cell.column.partition("_")
    at = f"{name}@{cell.row['k']}"
    if part in ("lower", "upper"):
        return (cell.record["intervals"].get(at) or [None, None])[part == "upper"]
    if name == "recall" and cell.config["data"]["split"] == "leave_one_out":
        return None  # with one target a user it is the hit rate again
    return (cell.record.get("std", {}) if part else cell.record["metrics"]).get(at)


def full_score(cell: Cell) -> Any:
    several = cell.config["data"]["split"] != "leave_one_out"
    return None if cell.column.startswith("recall") and not several else score(cell)


def seeds(cell: Cell) -> int | None:
    return len(cell.record.get("by_seed") or {}) or None if not cell.run.startswith(BASELINE) else None


def stopped(cell: Cell) -> int:
    return sum(bool(seed.get("stopped_early")) for seed in cell.training["by_seed"].values())


def row_above(cell: Cell) -> str | None:
    place = list(cell.frame.index).index(cell.row.name)
    return cell.frame["run"].iloc[place - 1] if place else None


def backbone(cell: Cell) -> str | None:
    return setting("warm_start", "variant")(cell)


def measured(cell: Cell) -> dict[str, Any]:
    """The measurement that a row of the efficiency table shows, by size, mode and machine."""
    record = cell.study.json(f"{cell.experiment}/efficiency/measurements.json")
    found = [
        {"hardware": record["hardware"]} | row
        for row in record["rows"]
        if (row["size"], row["mode"]) == (cell.row["size"], cell.row["mode"])
    ]
    return next(row for row in found if _names(cell.row["hardware"], row["hardware"]))


def _names(shown: str, hardware: dict[str, Any]) -> bool:
    gpus = ", ".join(gpu["name"] for gpu in hardware.get("gpus") or ())
    return shown in (gpus, f"{hardware['processor']}, {hardware['cores']} cores")


def measurement(cell: Cell) -> Any:
    row = measured(cell)
    if cell.column == "emulated":
        return "yes" if row.get("emulated") else None
    return row.get(cell.column) if not row.get("error") or cell.column == "error" else None


def speedup(cell: Cell) -> float | None:
    same = cell.frame[(cell.frame["hardware"] == cell.row["hardware"]) & (cell.frame["size"] == cell.row["size"])]
    full = same[same["mode"].isin(["float32", "fp32"])]["samples_per_second"]
    return (
        measured(cell)["samples_per_second"] / full.iloc[0] if len(full) and not measured(cell).get("error") else None
    )


def negatives(cell: Cell) -> int:
    return setting("evaluation", "sampled_negatives")(cell)


def ordered(cell: Cell) -> str:
    if summary("ordered")(cell) is False:
        return "no"
    return "that of the file" if summary("timestamps")(cell) is False else "yes"


HISTORY = {"keep": "ranked", "exclude": "left out"}


def target_share(name: str):
    """The share of the test targets that are repeated, or cold."""

    def share(cell: Cell, run: str) -> float:
        counts = cell.study.record(cell.experiment, run)["targets"]
        return counts[name] / counts["targets"]

    return share


def without_history(cell: Cell) -> float | None:
    split = summary("split")(cell)
    return split["without_history"]["test"] / split["rows"]["test"] if split else None


def tied(name: str):
    """The share of ties in time that the shards have."""
    return lambda cell, run: cell.study.record(cell.experiment, run)["ties"][name]


def lists(cell: Cell) -> dict[str, Any]:
    return cell.study.json(f"{cell.experiment}/{cell.run}/beyond.json")


def part_of(record: dict[str, Any], column: str) -> float | None:
    """A metric of a record, or an end of its interval, or its spread over seeds."""
    name, _, part = column.rpartition("_")
    if part in ("lower", "upper"):
        return (record.get("intervals", {}).get(name) or [None, None])[part == "upper"]
    return record.get("std", {}).get(name) if part == "std" else record["metrics"].get(column)


def group_of(cell: Cell) -> dict[str, Any]:
    """The entry of beyond.json for a row: its label has a range of lengths, or a group of items."""
    entries = [one for one in lists(cell)["groups"] if one["by"] == cell.row["by"]]
    label = cell.row["group"]
    return next(one for one in entries if label in (f"histories of {one['group']}", f"{one['group']} targets"))


def members(cell: Cell, run: str) -> pd.DataFrame:
    """The users of a row's group, with their values of a run."""
    frame = cell.study.frame(f"{cell.experiment}/{run}/groups.parquet")
    return frame[(frame["by"] == cell.row["by"]) & (frame["group"] == group_of(cell)["group"])]


def best_baseline(cell: Cell) -> str:
    """The baseline with the highest NDCG@10."""
    folders = (cell.study.root / cell.experiment).glob(f"{BASELINE}*/metrics.json")
    scores = {path.parent.name: cell.study.record(cell.experiment, path.parent.name)["metrics"] for path in folders}
    return max(scores, key=lambda name: scores[name]["NDCG@10"])


def in_group(source: Source) -> Source:
    """A value of the paired comparison in a row's group; of baselines and of fewer than ten users nothing is said."""

    def value(cell: Cell) -> Any:
        few = cell.row["users"] < FEW and cell.column not in ("difference", "against")
        return None if cell.run.startswith(BASELINE) or not cell.row["users"] or few else source(cell)

    return value


def group_cases(cell: Cell) -> Cases:
    return by_user(members(cell, cell.run), members(cell, best_baseline(cell)))


def against(cell: Cell) -> bool:
    """Its label and its folder's name have the same first word."""
    return cell.shown.lower().startswith(best_baseline(cell).removeprefix(BASELINE).split("_")[0])


GROUPS: dict[str, Source] = {
    "by": lambda cell: cell.shown in ("history", "popularity"),
    "group": lambda cell: bool(group_of(cell)),
    "users": lambda cell: len(members(cell, cell.run)),
    "few": lambda cell: "few" if len(members(cell, cell.run)) < 30 else None,
    "against": in_group(against),
    "difference": in_group(lambda cell: group_cases(cell).mean),
    "difference_lower": in_group(lambda cell: is_bound(cell.shown, group_cases(cell), 0.025)),
    "difference_upper": in_group(lambda cell: is_bound(cell.shown, group_cases(cell), 0.975)),
    "p": in_group(lambda cell: is_p(cell.shown, group_cases(cell))),
    "p_holm": lambda cell: holm(list(cell.frame["p"]))[list(cell.frame.index).index(cell.row.name)],
    "verdict": in_group(lambda cell: verdict(cell.row)),
    "*": lambda cell: part_of(group_of(cell), cell.column),
}
PROTOCOL = {"protocol": told("config")}
TABLES: dict[str, dict[str, Source]] = {
    "data": {
        "dataset": of_alike(lambda cell, run: cell.study.config(cell.experiment, run)["dataset"]),
        "split": lambda cell: any(mentions(cell.shown, cell.study.config(cell.experiment, run)) for run in alike(cell)),
        "users": summary("users"),
        "items": summary("items"),
        "interactions": summary("rows_kept"),
        "mean_length": lambda cell: summary("rows_kept")(cell) / summary("users")(cell),
        "ordered": ordered,
        "tied_targets": of_alike(tied("evaluation")),
        "tied_steps": of_alike(tied("elsewhere")),
        "tie_order": tie_order,
        "min_rating": lambda cell: bool(alike(cell)),
        "max_users": lambda cell: bool(alike(cell)),
        "fraction": lambda cell: bool(alike(cell)),
        "cases": of_alike(lambda cell, run: cell.study.record(cell.experiment, run)["cases"]),
        "repeated": of_alike(target_share("repeated")),
        "cold": of_alike(target_share("cold")),
        "without_history": without_history,
        "history": of_alike(lambda cell, run: HISTORY[cell.study.record(cell.experiment, run)["history"]]),
    },
    "ranking": PROTOCOL | {"seeds": seeds, "*": full_score},
    "cutoffs": PROTOCOL | {"*": cut_off},
    "tests": compared(principal, lambda cell: cell.run),
    "beyond": PROTOCOL | {"*": lambda cell: part_of(lists(cell), cell.column)},
    "groups": PROTOCOL | GROUPS,
    "sampled": PROTOCOL | {"negatives": negatives, "*": lambda cell: cell.record["sampled"].get(cell.column)},
    "training": PROTOCOL
    | {
        "seeds": lambda cell: len(cell.training["by_seed"]),
        "stopped": stopped,
        "early": lambda cell: f"{stopped(cell)} of {len(cell.training['by_seed'])}",
        "minutes": minutes,
        "*": trained,
    },
    "provenance": PROVENANCE,
    "scaling": PROTOCOL
    | compared(lambda cell: cell.run, row_above)
    | {"before": row_above, "minutes": minutes}
    | dict.fromkeys(("parameters", "encoder_parameters", "item_embedding_parameters"), trained)
    | {"*": score},
    "adapters": PROTOCOL
    | compared(lambda cell: cell.run, backbone)
    | {
        "method": setting("adapter", "method"),
        "r": setting("adapter", "r"),
        "experts": lambda cell: setting("adapter", "experts")(cell) if cell.row["method"] == "ilora" else None,
        "backbone": backbone,
        "trainable_parameters": trained,
        "trainable_share": trained,
        "backbone_NDCG@10": lambda cell: cell.study.record(cell.experiment, backbone(cell))["metrics"]["NDCG@10"],
        "*": score,
    },
    "efficiency": {
        "hardware": lambda cell: _names(cell.shown, measured(cell)["hardware"]),
        "speedup": speedup,
        "*": measurement,
    },
}
