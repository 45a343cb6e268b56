"""The benchmark against TRL: its texts, settings and ratios."""

import sys

import pandas as pd
import pytest

from bench import llm
from frugal.errors import FrugalError
from frugal.files import read_json


def run(number, system, speed, memory=100.0, share=0.5):
    values = {"tokens_per_second": speed, "peak_rss_mb": memory, "matmul_peak_share": share}
    return {"round": number, "system": system, **values}


def test_ratios_are_medians_of_rounds():
    # Lean against TRL's defaults: 30/10, 20/10 and 50/10 in speed, 40/100 in memory.
    runs = [run(n, "trl_default", 10) for n in range(3)]
    runs += [run(n, "lean", speed, memory=40) for n, speed in enumerate((30, 20, 50))]
    runs += [run(0, "fast", 60, share=0.6), run(0, "trl_tuned", 20)]
    result = llm.summarise(runs)
    assert result["lean_speed_vs_trl_default"] == 3
    assert result["lean_memory_vs_trl_default"] == 0.4
    assert (result["fast_speed_vs_trl_default"], result["fast_speed_vs_trl_tuned"]) == (6, 3)
    assert result["matmul_peak_share"] == 0.6
    assert result["nf4_speed_vs_unquantised"] is None


def test_texts_are_paragraphs_of_many_articles(tmp_path):
    path = tmp_path / "documents.parquet"
    articles = [f"Title\n{f'{n} ' * 450}\nshort\n{'x' * 3000}" for n in range(2 * llm.TEXTS)]
    pd.DataFrame({"text": articles}).to_parquet(path)
    texts = llm.paragraphs(path)
    assert len(texts) == llm.TEXTS
    assert texts[1].startswith("2 2 ")
    pd.DataFrame({"text": articles[:5]}).to_parquet(path)
    with pytest.raises(FrugalError, match="5 paragraphs of 800 to 2300 characters, not 200"):
        llm.paragraphs(path)


@pytest.mark.parametrize("system", llm.OURS)
def test_our_settings_are_valid(system):
    settings = llm.our_run(llm.OURS[system], 1)
    assert settings.training.max_steps == llm.STEPS
    assert settings.lora.r == llm.LORA["r"]


def test_speeds_are_kept_where_the_perplexity_fails(tmp_path, monkeypatch):
    def fail(command, log, *limits):
        raise FrugalError("no lm-eval here")

    monkeypatch.setattr(llm, "paragraphs", lambda path: ["text"] * 3)
    monkeypatch.setattr(llm, "train_theirs", lambda *_: {"tokens_per_second": 10.0, "peak_rss_mb": 100.0})
    ours = {"tokens_per_second": 30.0, "peak_rss_mb": 40.0, "matmul_peak_share": 0.5}
    monkeypatch.setattr(llm, "train_ours", lambda *_: dict(ours))
    monkeypatch.setattr(llm, "run_logged", fail)
    output = tmp_path / "bench/llm.json"
    monkeypatch.setattr(sys, "argv", ["bench.llm", "--rounds", "2", "--output", str(output)])
    with pytest.raises(FrugalError, match="no lm-eval here"):
        llm.main()
    result = read_json(output)
    assert (result["lean_speed_vs_trl_default"], result["lean_memory_vs_trl_default"]) == (3, 0.4)
    assert [run["system"] for run in result["runs"]].count("nf4") == 1
    assert len(result["runs"]) == 6 + 4
