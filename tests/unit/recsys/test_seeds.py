"""What metrics.json reports of the seeds of a recommender."""

import numpy as np
import pytest

from frugal.files import read_json
from frugal.recsys.evaluation import Evaluation
from frugal.recsys.seeds import summarise_seeds, write_ranking_metrics


def evaluation(rr: list[float], coverage: float) -> Evaluation:
    values = np.array(rr)
    ranks = (1 / values).astype(int)
    metrics = {"MRR": float(values.mean()), "coverage@10": coverage}
    return Evaluation(
        np.arange(len(rr)),
        np.ones(len(rr), int),
        ranks,
        ranks[:, None],
        {"MRR": values},
        metrics,
        {"MRR": 2 * metrics["MRR"]},
    )


def test_seeds_are_averaged():
    # MRR .75 and .25: mean .5, sample standard deviation sqrt(2 * .25^2 / 1) = .35355. Over the seeds both
    # users have .5: no spread over users is left, although each seed has one.
    summary = summarise_seeds({1: evaluation([1, 0.5], 0.2), 5: evaluation([0.0625, 0.4375], 0.4)}, 50, 0)
    assert summary["metrics"] == pytest.approx({"MRR": 0.5, "coverage@10": 0.3})
    assert summary["std"] == pytest.approx({"MRR": 0.35355, "coverage@10": 0.141421}, abs=1e-5)
    assert summary["by_seed"]["5"] == {"MRR": 0.25, "coverage@10": 0.4}
    assert summary["sampled"] == {"MRR": 1.0}
    assert summary["cases"] == 2
    assert list(summary["intervals"]) == ["MRR"]
    # The users' averages are .53125 and .46875.
    assert summary["intervals"]["MRR"] == pytest.approx([0.46875, 0.53125])


def test_one_seed_has_no_spread_and_the_file_is_json(tmp_path):
    result = evaluation([1, 0.5], 0.2)
    summary = summarise_seeds({0: result}, 20, 0)
    write_ranking_metrics(tmp_path / "metrics.json", summary, None, {"seed": 0})
    written = read_json(tmp_path / "metrics.json")
    assert "std" not in written
    assert written["metrics"] == result.metrics
    assert (written["sampled"], written["training"], written["provenance"]) == ({"MRR": 1.5}, None, {"seed": 0})
