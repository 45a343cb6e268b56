"""The folder of a finished run of the kind `recommendation`: its settings, without its model."""

from pathlib import Path

from frugal.config.recommendation import RecommendationRun
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.kinds import RECOMMENDATION
from frugal.run.outputs import load_run


def load_settings(folder: Path) -> RecommendationRun:
    """The settings of the run in results/<study>/<experiment>/<variant>.

    Raises:
        FrugalError: it is no folder of a run, or of one of another kind, or its model reads times.
    """
    if not (folder / "config.yaml").is_file():
        raise FrugalError(f"{folder}: is no trained run: it has no config.yaml; give results/STUDY/EXPERIMENT/VARIANT")
    run = load_run(folder / "config.yaml")
    if run.kind != RECOMMENDATION.name:
        other = "; rank candidates with it by rank_candidates.py" if run.kind == "preference" else ""
        raise FrugalError(f"{folder}: is a run of the kind '{run.kind}', not '{RECOMMENDATION.name}'{other}")
    if run.model.positions == "time":
        raise FrugalError(
            f"{folder}: its model reads the times of items (model.positions 'time'), which these histories do not "
            "have; use a run with other positions"
        )
    return run


def keeps_history(folder: Path, run: RecommendationRun) -> bool:
    """Whether a run ranks the items of a user's history too: by its settings, or if "auto" as its evaluation did.

    Raises:
        FrugalError: the setting is "auto", and there is no evaluation.
    """
    if run.evaluation.history != "auto":
        return run.evaluation.history == "keep"
    path = folder / "metrics.json"
    try:
        return {"keep": True, "exclude": False}[read_json(path)["history"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise FrugalError(
            f"{path}: does not say whether items of the history are ranked; finish the run (make report), or choose "
            "--keep-history or --exclude-history"
        ) from None


def model_folder(folder: Path, run: RecommendationRun, seed: int) -> tuple[Path, Path | None]:
    """Where the model of one seed is, and with an adapter the model below it.

    Raises:
        FrugalError: the run has no such seed, or no model.
    """
    if seed not in run.seeds:
        raise FrugalError(f"{folder}: has no seed {seed}; its seeds are {', '.join(map(str, run.seeds))}")
    path, backbone = folder / "seeds" / str(seed) / "model", None
    if not path.is_dir():
        raise FrugalError(f"{path}: is not there: the run is not trained yet; finish it with: make report")
    if run.adapter.method != "none":
        start = run.warm_start
        experiment = folder.parent if start.experiment is None else folder.parents[1] / start.experiment
        backbone = experiment / start.variant / "seeds" / str(seed) / "model"
    return path, backbone
