"""The ledger: what each original states, what answers it here, and the verdict.

A claim is answered by a computation of `frugal.claims.analytic`, by a result file of a study, or by neither, with the
reason. Shares and seconds are in the units of the result files, so that a claim's value can be compared as it stands.
"""

import argparse
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd
from pydantic import Field, model_validator

from frugal.claims import analytic
from frugal.claims.analytic import Bounds
from frugal.config.base import Settings
from frugal.config.errors import describe, nearest, validate
from frugal.config.language_modeling import RUNGS
from frugal.config.originals import ORIGINALS_FILE, load_originals
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, first_line
from frugal.files import atomic_path
from frugal.kinds import BASE, KINDS

REPRODUCED, DIFFERS, REFUTED = "reproduced", "differs", "refuted"
NOT_COMPARABLE, NOT_MEASURED = "not comparable", "not measured yet"
VERDICTS = (REPRODUCED, DIFFERS, REFUTED, NOT_COMPARABLE, NOT_MEASURED)
COLUMNS = ("id", "source", "original", "finding", "claim", "value", "unit", "answer", "verdict", "by")
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
    """Where a result file of the experiment that reproduces the original holds the answer."""

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
        """Below the folder of an experiment's results."""
        return Path(self.variant) / ("measurements.json" if self.row else "metrics.json")


class Claim(Settings):
    """A number that a write-up states."""

    id: str
    original: str = Field(description="The original project, a key of config/originals.yaml.")
    finding: bool = Field(True, description="false: a setting, a price, advice, or a count of the data set.")
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
    """The claims of a file, in its order; a claim's id is `<original>.<name>`.

    Raises:
        FrugalError: one line for each fault of the first faulty claim, naming file, claim and key.
    """
    claims, originals = [], load_originals()
    for original, entry in read_yaml(path).items():
        if original not in originals:
            near = nearest(str(original), list(originals))
            raise FrugalError(f"{path}: {original}: no such original in {ORIGINALS_FILE}{near}")
        if not isinstance(entry, dict):
            raise FrugalError(f"{path}: {original}: expected claims by their names, got {describe(entry)}")
        for name, claim in entry.items():
            if not isinstance(claim, dict):
                raise FrugalError(f"{path}: {original}.{name}: expected keys and values, got {describe(claim)}")
            named = {"id": f"{original}.{name}", "original": original}
            if fixed := sorted(named.keys() & claim.keys()):
                raise FrugalError(f"{path}: {original}.{name}.{fixed[0]}: leave it out; its place in the file says it")
            claims.append(validate(Claim, claim | named, file=str(path), prefix=(original, str(name))))
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


def make_ledger(
    claims: list[Claim], results: Path | str, described: dict[str, Any], configs: Path | str = "config"
) -> pd.DataFrame:
    """One row a claim, with the columns of `COLUMNS`.

    Args:
        results: the folder of one study, results/<study>.
        described: the study's experiments, as its study.yaml holds them; of those that reproduce an original the
            first one answers its claims.
        configs: the folder of the studies' configuration files, for the commands of what is not measured.

    Raises:
        FrugalError: a computation or a result file is faulty.
    """
    rows, originals, folders = [], load_originals(), {}
    for name, experiment in described["experiments"].items():
        folders.setdefault(experiment["reproduces"], Path(results) / name)
    for claim in claims:
        source = originals[claim.original].source
        stated = (claim.id, source, claim.original, claim.finding, claim.statement, claim.value, claim.unit)
        rows.append((*stated, *judge(claim, Path(results), folders.get(claim.original), Path(configs))))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64", "answer": "float64"})


def judge(claim: Claim, results: Path, experiment: Path | None, configs: Path) -> Verdict:
    """The verdict of one claim; a computation goes before a measurement.

    Args:
        experiment: the folder of the experiment that reproduces its original; None where the study has none.
    """
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
        return _judge_measured(claim, claim.result, results, experiment, configs)
    return Verdict(None, NOT_COMPARABLE, claim.reason)


def _judge_measured(claim: Claim, result: Result, results: Path, experiment: Path | None, configs: Path) -> Verdict:
    answer = read_answer(result, experiment) if experiment else None
    if answer is None:
        return Verdict(None, NOT_MEASURED, command(claim, results, experiment, configs))
    if not result.comparable:
        return Verdict(answer, NOT_COMPARABLE, result.why)
    for key, needed in result.requires.items():
        if (here := _setting(experiment / result.variant / "config.yaml", key)) != needed:
            return Verdict(answer, NOT_COMPARABLE, f"{key} is {here} here, and would have to be {needed}")
    agrees = claim.tolerance.allows(claim.value, answer)
    return Verdict(answer, REPRODUCED if agrees else DIFFERS, f"{(experiment / result.file).as_posix()}: {result.key}")


def read_answer(result: Result, experiment: Path) -> float | None:
    """The number in an experiment's result file; None where the file, the row or the number is not there.

    Raises:
        FrugalError: the file cannot be understood, or holds something else under that key.
    """
    path = experiment / result.file
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


def command(claim: Claim, results: Path, experiment: Path | None, configs: Path) -> str:
    """The command that measures it: in the study of ``results`` where that lacks the file, else in the full one."""
    study, result = results.name, claim.result
    measured = experiment is not None and (experiment / result.file).exists()
    name = None if measured else provider(configs, study, claim)
    if name is None:
        study, name = FULL, provider(configs, FULL, claim) or claim.original
    target = (results.parent / study / name / result.file).as_posix()
    return f"snakemake --configfile {(configs / _config_file(study)).as_posix()} -- {target}"


def provider(configs: Path, study: str, claim: Claim) -> str | None:
    """The experiment of a study that makes the file and the row of a claim's result, by the study's configuration."""
    path, result = configs / _config_file(study), claim.result
    experiments = (read_yaml(path).get("experiments") or {}) if path.exists() else {}
    name = next((one for one, entry in experiments.items() if entry.get("reproduces") == claim.original), None)
    if name is None:
        return None
    experiment, kind = experiments[name], KINDS[experiments[name]["kind"]]
    variants = [*(experiment.get("variants") or {"tuned": {}}), *(f"baseline_{one}" for one in kind.baselines)]
    made = result.variant in variants or (result.variant == BASE and kind.has_base_model)
    if result.variant == "efficiency":
        settings = experiment.get("efficiency") or {}
        made = result.row.get("size") in settings.get("sizes", {}) and result.row.get("mode") in settings["modes"]
    elif result.variant == "ladder":
        ladder = experiment.get("ladder") or {}
        made = bool(ladder) and result.row.get("rung") in ladder.get("rungs", RUNGS)
    return name if made else None


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
    shown = ledger[["id", "value", "unit", "answer", "verdict", "by"]].rename(
        columns={"id": "claim", "value": "stated"}
    )
    shown = shown.assign(stated=shown["stated"].map(_number), answer=shown["answer"].map(_number))
    for name in ("claim", "unit", "verdict", "by"):
        width = max(len(name), shown[name].str.len().max())
        shown = shown.assign(**{name: shown[name].str.ljust(width)}).rename(columns={name: name.ljust(width)})
    table = shown.to_string(index=False, col_space=0, justify="right")
    counts = ledger["verdict"].value_counts()
    summary = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return "\n".join([*(line.rstrip() for line in table.split("\n")), "", f"{len(ledger)} claims: {summary}"])


def _number(value: float) -> str:
    """At most six digits of a fraction, all digits of a whole number; a dash for none."""
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"
