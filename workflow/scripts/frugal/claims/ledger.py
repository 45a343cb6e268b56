"""The ledger: what each original states, what answers it here, and the verdict.

A claim is answered by a computation of `frugal.claims.analytic`, by a result file of a study, or by neither, with the
reason. Shares and seconds are in the units of the result files, so that a claim's value can be compared as it stands.
"""

import argparse
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import pandas as pd
from pydantic import Field, model_validator

from frugal.claims import analytic
from frugal.claims.analytic import Bounds
from frugal.config.base import Settings
from frugal.config.errors import describe, nearest, validate
from frugal.config.language_modeling import RUNGS
from frugal.config.study import BASE, BASELINES, RECOMMENDERS
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, first_line
from frugal.files import atomic_path

REPRODUCED, DIFFERS, REFUTED = "reproduced", "differs", "refuted"
NOT_COMPARABLE, NOT_MEASURED = "not comparable", "not measured yet"
VERDICTS = (REPRODUCED, DIFFERS, REFUTED, NOT_COMPARABLE, NOT_MEASURED)
COLUMNS = ("id", "source", "experiment", "claim", "value", "unit", "answer", "verdict", "by")
#: The configuration file of a study that is not called <study>.yaml.
CONFIG_FILES = {"laptop": "config.yaml"}
#: The study with the settings of the originals.
FULL = "full"
#: Folders of measurements, and the list of rows in their measurements.json.
MEASUREMENTS = {"efficiency": "rows", "ladder": "rungs"}
#: Computations that a claim can name.
COMPUTATIONS: dict[str, Callable[..., float | Bounds]] = {
    name: function
    for name, function in vars(analytic).items()
    if inspect.isfunction(function) and function.__module__ == analytic.__name__ and not name.startswith("_")
}


class Tolerance(Settings):
    """How far an answer may be from what is stated, as a share of it or in its unit."""

    relative: float | None = Field(None, ge=0)
    absolute: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.relative is None) == (self.absolute is None):
            raise ValueError("give either 'relative' or 'absolute'")
        return self

    def allows(self, stated: float, answer: float) -> bool:
        margin = self.relative * abs(stated) if self.absolute is None else self.absolute
        return abs(answer - stated) <= margin + 1e-12 * abs(stated)


class Result(Settings):
    """Where a result file holds the answer."""

    experiment: Literal[tuple(BASELINES)]
    variant: str = Field(description="A folder of the experiment's results: a variant, base, baseline_<name>, ...")
    key: str = Field(description="metrics.<name> or training.<name> of metrics.json; <name> of a measurement.")
    row: dict[str, str] = Field({}, description="The measurement, of variant 'efficiency' or 'ladder'.")
    requires: dict[str, str] = Field({}, description="Settings of the run without which it is not comparable.")
    comparable: bool = True
    why: str = Field("", description="Why it is not comparable.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.comparable == bool(self.why):
            raise ValueError("give 'why' where 'comparable' is false, and only there")
        if bool(self.row) != (self.variant in MEASUREMENTS):
            raise ValueError(f"'row' goes with the variants {' and '.join(MEASUREMENTS)}, and they with 'row'")
        if not self.row and not self.key.startswith(("metrics.", "training.")):
            raise ValueError(f"key '{self.key}': begin with 'metrics.' or 'training.', the part of metrics.json")
        return self

    @property
    def file(self) -> Path:
        """Below the folder of a study's results."""
        return Path(self.experiment) / self.variant / ("measurements.json" if self.row else "metrics.json")


class Claim(Settings):
    """A number that a write-up states."""

    id: str
    source: str = Field(description="The write-up, by its own title.")
    experiment: Literal[tuple(BASELINES)]
    statement: str = Field(min_length=1)
    value: float | None = Field(description="null: the write-up left the number out.")
    unit: str = Field(min_length=1)
    tolerance: Tolerance | None = None
    analytic: str | None = Field(None, description="A computation of frugal.claims.analytic.")
    arguments: dict[str, Any] = Field({}, description="Of the computation, by name.")
    result: Result | None = None
    reason: str | None = Field(
        None, min_length=1, description="Why nothing here can answer it, or why the computed answer is not judged."
    )

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.analytic is None and (self.result is None) == (self.reason is None):
            raise ValueError("give 'analytic', 'result' or a 'reason'; a result says 'why' it is not comparable")
        if self.analytic is not None:
            _check_call(self.analytic, self.arguments)
        elif self.arguments:
            raise ValueError("'arguments' go with 'analytic'")
        judged = self.reason is None and self.analytic is not None
        compared = judged or (self.result is not None and self.result.comparable)
        if compared and (self.value is None or self.tolerance is None):
            raise ValueError("what is compared needs a 'value' and a 'tolerance'")
        return self


class Verdict(NamedTuple):
    """``answer`` in the claim's unit, None where there is no single number; ``by`` what it rests on."""

    answer: float | None
    verdict: str
    by: str


def _check_call(name: str, arguments: dict[str, Any]) -> None:
    if name not in COMPUTATIONS:
        raise ValueError(f"analytic: there is no computation '{name}'{nearest(name, list(COMPUTATIONS))}")
    try:
        inspect.signature(COMPUTATIONS[name]).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"arguments: {name}: {error}") from None


def load_claims(path: Path | str) -> list[Claim]:
    """The claims of a file, in its order; a claim's id is `<experiment>.<name>`.

    Raises:
        FrugalError: one line for each fault of the first faulty claim, naming file, claim and key.
    """
    claims = []
    for experiment, entry in read_yaml(path).items():
        if experiment not in BASELINES:
            raise FrugalError(f"{path}: {experiment}: no such experiment{nearest(str(experiment), list(BASELINES))}")
        if not isinstance(entry, dict) or set(entry) != {"source", "claims"} or not isinstance(entry["claims"], dict):
            raise FrugalError(f"{path}: {experiment}: expected the keys 'source' and 'claims', got {describe(entry)}")
        for name, claim in entry["claims"].items():
            if not isinstance(claim, dict):
                raise FrugalError(f"{path}: {experiment}.{name}: expected keys and values, got {describe(claim)}")
            named = {"id": f"{experiment}.{name}", "source": entry["source"], "experiment": experiment}
            if fixed := sorted(named.keys() & claim.keys()):
                raise FrugalError(
                    f"{path}: {experiment}.{name}.{fixed[0]}: leave it out; it is the same for all claims"
                )
            claims.append(validate(Claim, claim | named, file=str(path), prefix=(experiment, str(name))))
    return claims


def compute(claim: Claim) -> float | Bounds:
    """What the claim's computation gives.

    Raises:
        FrugalError: the arguments have the right names and wrong values; names the claim.
    """
    try:
        return COMPUTATIONS[claim.analytic](**claim.arguments)
    except (FrugalError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise FrugalError(f"{claim.id}.arguments: {claim.analytic}: {first_line(error)}") from None


def make_ledger(claims: list[Claim], results: Path | str, configs: Path | str = "config") -> pd.DataFrame:
    """One row a claim, with the columns of `COLUMNS`.

    Args:
        results: the folder of one study, results/<study>.
        configs: the folder of the studies' configuration files, for the commands of what is not measured.

    Raises:
        FrugalError: a computation or a result file is faulty.
    """
    rows = []
    for claim in claims:
        stated = (claim.id, claim.source, claim.experiment, claim.statement, claim.value, claim.unit)
        rows.append((*stated, *judge(claim, Path(results), Path(configs))))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64", "answer": "float64"})


def judge(claim: Claim, results: Path, configs: Path) -> Verdict:
    """The verdict of one claim; a computation goes before a measurement."""
    if claim.analytic is not None:
        answer = compute(claim)
        if claim.reason is not None:
            return Verdict(None if isinstance(answer, Bounds) else answer, NOT_COMPARABLE, claim.reason)
        if not isinstance(answer, Bounds):
            agrees = claim.tolerance.allows(claim.value, answer)
            return Verdict(answer, REPRODUCED if agrees else REFUTED, claim.analytic)
        nearest_possible = min(max(claim.value, answer.lower), answer.upper)
        by = f"{claim.analytic}: possible are {answer.lower:.4g} to {answer.upper:.4g}"
        if not claim.tolerance.allows(claim.value, nearest_possible):
            return Verdict(None, REFUTED, by)
        if claim.result is None:
            return Verdict(None, NOT_COMPARABLE, by)
    if claim.result is not None:
        return _judge_measured(claim, claim.result, results, configs)
    return Verdict(None, NOT_COMPARABLE, claim.reason)


def _judge_measured(claim: Claim, result: Result, results: Path, configs: Path) -> Verdict:
    answer = read_answer(result, results)
    if answer is None:
        return Verdict(None, NOT_MEASURED, command(result, results, configs))
    if not result.comparable:
        return Verdict(answer, NOT_COMPARABLE, result.why)
    for key, needed in result.requires.items():
        if (here := _setting(results / result.experiment / result.variant / "config.yaml", key)) != needed:
            return Verdict(answer, NOT_COMPARABLE, f"{key} is {here} here, and would have to be {needed}")
    agrees = claim.tolerance.allows(claim.value, answer)
    return Verdict(answer, REPRODUCED if agrees else DIFFERS, f"{(results / result.file).as_posix()}: {result.key}")


def read_answer(result: Result, results: Path) -> float | None:
    """The number in a study's result file; None where the file, the row or the number is not there.

    Raises:
        FrugalError: the file cannot be understood, or holds something else under that key.
    """
    path = results / result.file
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if result.row:
            rows = content[MEASUREMENTS[result.variant]]
            found = [row for row in rows if result.row.items() <= row.items()]
            value = found[0].get(result.key) if found else None
        else:
            part, name = result.key.split(".", 1)
            value = (content[part] or {}).get(name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrugalError(
            f"{path}: cannot be read ({first_line(error)}); delete it and run `snakemake {path}`"
        ) from None
    if value is not None and not isinstance(value, (int, float)):
        raise FrugalError(f"{path}: {result.key}: expected a number, got {describe(value)}; make the file again")
    return value


def command(result: Result, results: Path, configs: Path) -> str:
    """The command that measures it: in the study of ``results`` where that lacks the file, else in the full one."""
    study = results.name
    if (results / result.file).exists() or not provides(configs, study, result):
        study = FULL
    target = (results.parent / study / result.file).as_posix()
    return f"snakemake --configfile {(configs / _config_file(study)).as_posix()} -- {target}"


def provides(configs: Path, study: str, result: Result) -> bool:
    """Whether a study, by its configuration, makes the file and the row of ``result``."""
    if not (path := configs / _config_file(study)).exists():
        return False
    experiment = read_yaml(path).get(result.experiment) or {}
    if result.variant == "efficiency":
        settings = experiment.get("efficiency") or {}
        return result.row.get("size") in settings.get("sizes", {}) and result.row.get("mode") in settings["modes"]
    if result.variant == "ladder":
        ladder = experiment.get("ladder") or {}
        return bool(ladder) and result.row.get("rung") in ladder.get("rungs", RUNGS)
    if result.variant == BASE:
        return result.experiment not in RECOMMENDERS
    baselines = [f"baseline_{name}" for name in BASELINES[result.experiment]]
    return result.variant in [*(experiment.get("variants") or {"tuned": {}}), *baselines]


def _config_file(study: str) -> str:
    return CONFIG_FILES.get(study, f"{study}.yaml")


def _setting(path: Path, key: str) -> str:
    """A setting of a run by its dotted key, as text; 'not known' without the run's config.yaml."""
    value: Any = read_yaml(path) if path.exists() else {}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "not known" if value is None else str(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where the claims are, and the studies that can answer them."""
    parser.add_argument("--claims", default=Path("config/claims.yaml"), type=Path, help="the claims, YAML")
    parser.add_argument("--configs", default=Path("config"), type=Path, help="folder of the studies' configurations")


def write_ledger(ledger: pd.DataFrame, path: Path | str) -> None:
    """Write the ledger as Parquet; the same rows give the same bytes."""
    with atomic_path(path) as temporary:
        ledger.to_parquet(temporary, index=False)


def as_text(ledger: pd.DataFrame) -> str:
    """The ledger as an aligned table, and how many claims have each verdict."""
    lines = [("claim", "stated", "unit", "answer", "verdict", "by")]
    for row in ledger.itertuples():
        lines.append((row.id, _number(row.value), row.unit, _number(row.answer), row.verdict, row.by))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    table = [
        "  ".join(
            [cell.rjust(width) if i in (1, 3) else cell.ljust(width) for i, (cell, width) in enumerate(cells)]
            + [line[-1]]
        )
        for line in lines
        for cells in [list(zip(line[:-1], widths, strict=True))]
    ]
    counts = ledger["verdict"].value_counts()
    summary = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return "\n".join([*table, "", f"{len(ledger)} claims: {summary}"])


def _number(value: float) -> str:
    """At most six digits of a fraction, all digits of a whole number; a dash for none."""
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"
