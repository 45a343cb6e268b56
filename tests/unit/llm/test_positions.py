"""The positions of a base model, and runs that read beyond them."""

import pytest

from frugal.config.language_modeling import LanguageModelingRun
from frugal.errors import FrugalError
from frugal.files import write_json
from frugal.llm.positions import check_lengths, lengths, positions

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}, "max_position_embeddings": 1}, 4096),
        ({"max_position_embeddings": 40960, "rope_scaling": YARN}, 131072),
        ({"max_position_embeddings": 131072, "rope_parameters": YARN}, 131072),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 2.0}}, 4096),
        ({"model_type": "bloom"}, None),
    ],
)
def test_positions_by_hand(config, limit):
    assert positions(config) == limit


def test_a_length_beyond_them_is_named(tmp_path, make_run):
    write_json(tmp_path / "config.json", {"max_position_embeddings": 256})
    run = LanguageModelingRun(
        dataset="d", base_model="m", evaluation={"context_length": 257}, corpus={"block_length": 256}
    )
    message = r"evaluation\.context_length is 257, but the model in .* has 256 positions .* to 256 or less, or choose"
    with pytest.raises(FrugalError, match=message):
        check_lengths(tmp_path, lengths(run))
    with pytest.raises(FrugalError, match=r"model\.max_length is 300, but"):
        check_lengths(tmp_path, lengths(make_run(model={"max_length": 300})))
    check_lengths(tmp_path, lengths(make_run(model={"max_length": 256})))
    with pytest.raises(FrugalError, match="not a usable model"):
        check_lengths(tmp_path / "none", {})
