"""Configurations of the recommenders, and the settings that become them."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from frugal.config.base import plain
from frugal.config.recommendation import (
    AdapterSettings,
    LossSettings,
    ModelSettings,
    RecommendationRun,
    WarmStartSettings,
)
from frugal.config.study import resolve
from frugal.fingerprint import settings_hash
from frugal.recsys.configuration import BERT4RecConfig, RecommenderConfig, SASRecConfig, SSEPTConfig


def test_what_a_model_derives_from_its_configuration():
    sasrec, ssept, bert4rec = (
        kind(item_count=10, hidden_size=8) for kind in (SASRecConfig, SSEPTConfig, BERT4RecConfig)
    )
    assert (sasrec.width, bert4rec.width) == (8, 8)
    assert ssept.width == 8 + 64
    assert (sasrec.causal, ssept.causal, bert4rec.causal) == (True, True, False)
    assert bert4rec.mask_token_id == 10


@pytest.mark.parametrize("kind", [SASRecConfig, SSEPTConfig, BERT4RecConfig])
def test_layers_are_saved_where_they_are_not_the_default(tmp_path, kind):
    for layers in ("transformer", "ligr"):
        kind(layers=layers).save_pretrained(tmp_path)
        assert ("layers" in json.loads((tmp_path / "config.json").read_text())) == (layers != "transformer")
        assert kind.from_pretrained(tmp_path).layers == layers


@pytest.mark.parametrize("kind", [SASRecConfig, SSEPTConfig, BERT4RecConfig])
def test_saved_and_loaded_configuration_is_the_same(tmp_path, kind):
    config = kind(item_count=10, user_count=4, hidden_size=8, positions="rotary", score="cosine", cosine_scale=9.0)
    config.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    ours, theirs = config.to_dict(), loaded.to_dict()
    assert ours == theirs
    assert (loaded.item_count, loaded.positions, loaded.cosine_scale, loaded.width) == (10, "rotary", 9.0, config.width)
    assert ours["model_type"] == kind.model_type != RecommenderConfig.model_type


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads 3 does not cut the width 64 into equal parts"),
        ({"architecture": "ssept", "user_embedding_size": 5}, "does not cut the width 69 into equal parts"),
        # Rotary positions turn pairs: 66 / 22 = 3 is odd.
        ({"hidden_size": 66, "num_attention_heads": 22, "positions": "rotary"}, "cut the width 66 into even parts"),
    ],
)
def test_heads_must_divide_the_width(changes, message):
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**{"architecture": "sasrec", **changes})


def test_heads_that_divide_the_width():
    assert ModelSettings(architecture="sasrec", hidden_size=66, num_attention_heads=22).hidden_size == 66
    # The width of the user counts in SSE-PT alone.
    assert ModelSettings(architecture="bert4rec", user_embedding_size=5).user_embedding_size == 5


def test_experts_must_divide_the_rank():
    with pytest.raises(ValidationError, match="r 8 cannot be cut into 3 experts"):
        AdapterSettings(method="ilora", r=8, experts=3)
    assert AdapterSettings(method="lora", r=8, experts=3).r == 8


def test_warm_start_has_one_source():
    for sources in ({}, {"variant": "base", "path": "model.pth"}):
        with pytest.raises(ValidationError, match="give either 'variant' or 'path'"):
            WarmStartSettings(**sources)
    assert WarmStartSettings(variant="base").path is None


def test_settings_from_before_a_key_was_added_keep_their_hash():
    """Results belong to a hash of their settings; a key is written only where it is not at its default."""
    old = RecommendationRun(dataset="shop", seeds=[1])
    assert settings_hash(plain(old)) == "2cc5e526"
    assert set(plain(old)["loss"]) == {"name", "negatives", "precision"}
    assert "layers" not in plain(old)["model"]
    new = RecommendationRun(dataset="shop", seeds=[1], loss={"name": "gbce", "calibration": 0.5})
    assert plain(new)["loss"]["calibration"] == 0.5
    assert RecommendationRun.model_validate(plain(new)) == new


def test_the_page_of_parts_names_them_all_and_its_study_is_valid():
    page = Path("docs/reference/recommenders.md").read_text()
    data = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1])
    variants = data["experiments"]["recommender"]["variants"]
    runs = {name: resolve(data, "recommender", name, "the page") for name in variants}
    assert (runs["esasrec"].model.layers, runs["esasrec"].loss.negatives) == ("ligr", 256)
    listed = re.findall(r"^\| (?:`[a-z.]+`)? ?\| `(\w+)` \|", page, re.MULTILINE)
    keys = [(ModelSettings, key) for key in ("architecture", "layers", "positions")] + [(LossSettings, "name")]
    assert listed == [value for model, key in keys for value in model.model_fields[key].annotation.__args__]
