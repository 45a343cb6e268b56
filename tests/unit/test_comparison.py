"""Two runs of a study are compared: times may differ, and nothing else."""

import shutil

import numpy as np
import pytest
from comparison import derived_files, differences
from safetensors.numpy import save_file

from frugal.files import write_json, write_text


@pytest.fixture
def folders(tmp_path):
    """A small study's results, and a copy."""
    run = tmp_path / "expected/climate/tuned"
    write_json(run / "metrics.json", {"metrics": {"perplexity": 9.5, "seconds": 1.5}, "training": {"peak_rss_mb": 9}})
    write_text(run / "history.csv", "step,loss,seconds\n1,0.5,1.25\n2,0.25,2.5\n")
    write_text(run / "answers.jsonl", '{"prompt": "a", "answer": "b"}\n')
    (run / "adapter").mkdir()
    save_file({"a": np.arange(4, dtype=np.float32)}, run / "adapter/adapter_model.safetensors")
    write_text(run / "README.md", "It took 1.5 s.")
    write_text(tmp_path / "expected/report/report.md", "1.5 s")
    shutil.copytree(tmp_path / "expected", tmp_path / "found")
    return tmp_path / "expected", tmp_path / "found"


def test_equal_results_do_not_differ(folders):
    assert differences(*folders) == []


def test_times_may_differ_and_what_is_written_from_them(folders):
    run = folders[1] / "climate/tuned"
    write_json(run / "metrics.json", {"metrics": {"perplexity": 9.5, "seconds": 99}, "training": {"peak_rss_mb": 8.5}})
    write_text(run / "history.csv", "step,loss,seconds\n1,0.5,3\n2,0.25,4\n")
    write_text(run / "README.md", "It took 99 s.")
    write_text(run / "adapter/.snakemake_timestamp", "")
    assert differences(*folders) == []
    assert sorted(derived_files(folders[1])) == ["climate/tuned/README.md", "report/report.md"]


def test_a_measured_value_has_to_be_there(folders):
    metrics = folders[1] / "climate/tuned/metrics.json"
    for value in ({"perplexity": 9.5}, {"perplexity": 9.5, "seconds": None}):
        write_json(metrics, {"metrics": value, "training": {"peak_rss_mb": 9}})
        assert len(differences(*folders)) == 1


def test_one_changed_bit_of_a_weight(folders):
    path = folders[1] / "climate/tuned/adapter/adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert differences(*folders) == ["climate/tuned/adapter/adapter_model.safetensors: differs in a"]
    path.write_bytes(content[:-3])
    assert "cannot be read" in differences(*folders)[0]


def test_a_changed_value(folders):
    run = folders[1] / "climate/tuned"
    write_json(run / "metrics.json", {"metrics": {"perplexity": 9.6, "seconds": 1.5}, "training": {"peak_rss_mb": 9}})
    write_text(run / "history.csv", "step,loss,seconds\n1,0.5,1.25\n2,0.35,2.5\n")
    write_text(run / "answers.jsonl", '{"prompt": "a", "answer": "c"}\n')
    assert differences(*folders) == [
        "climate/tuned/answers.jsonl: differs in [0].answer",
        "climate/tuned/history.csv: differs in [1].loss",
        "climate/tuned/metrics.json: differs in metrics.perplexity",
    ]


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "answers.jsonl"])
def test_a_half_written_file(folders, name):
    path = folders[1] / "climate/tuned" / name
    content = path.read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 4):
        path.write_bytes(content[:size])
        for partial in (False, True):
            (line,) = differences(*folders, partial=partial)
            assert line.startswith(f"climate/tuned/{name}: ")


def test_a_missing_file_and_one_too_many(folders):
    (folders[1] / "climate/tuned/history.csv").unlink()
    write_text(folders[1] / "climate/tuned/.metrics.json.x.unfinished/metrics.json", "{")
    assert differences(*folders) == [
        "climate/tuned/.metrics.json.x.unfinished/metrics.json: is there, and should not be",
        "climate/tuned/history.csv: is missing",
    ]
    assert differences(*folders, partial=True) == []
    write_text(folders[1] / "climate/tuned/other.json", "{}")
    assert differences(*folders, partial=True) == ["climate/tuned/other.json: is there, and should not be"]
