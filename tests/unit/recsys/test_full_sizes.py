"""Sizes of the shipped studies are what their names say: counted on the meta device, without memory."""

import pytest
import torch

from frugal.config.study import resolve
from frugal.config.yaml_files import read_yaml
from frugal.recsys.training import build_model

#: Films of MovieLens-20M with a description; items of Amazon 2014 with five reviews and more.
CATALOGUES = {"movielens-20m": 27_278, "amazon-electronics-2014": 63_001, "amazon-beauty-2014": 12_101}
FULL, WORKSTATION = read_yaml("config/full.yaml"), read_yaml("config/workstation.yaml")


def count(variant, study=FULL):
    run = resolve(study, "bert4rec", variant, "study.yaml")
    with torch.device("meta"):
        model = build_model(run.model, CATALOGUES[run.dataset], 1, seed=1)
    assert next(model.parameters()).is_meta
    return run.model, CATALOGUES[run.dataset], model.parameter_counts()


@pytest.mark.parametrize(("name", "millions"), [("5m", 5), ("85m", 85), ("130m", 130), ("430m", 430)])
def test_names_are_numbers_of_weights(name, millions):
    model, items, counts = count(name)
    assert counts["parameters"] == pytest.approx(millions * 1e6, rel=0.02)
    # An embedding for each item and the mask, a bias for each item.
    d, ff, layers = model.hidden_size, model.intermediate_size, model.num_hidden_layers
    assert counts["item_embedding_parameters"] == (items + 1) * d + items
    # Attention: four d x d with biases; feed-forward: d x ff and back; two norms. Positions, a last norm, and
    # the dense layer with its norm before the item embedding.
    block = 4 * (d * d + d) + d * ff + ff + ff * d + d + 4 * d
    assert counts["encoder_parameters"] == layers * block + model.max_length * d + 2 * d + d * d + d + 2 * d
    assert counts["user_embedding_parameters"] == 0


def test_counts_to_the_last_weight():
    counts = [count(name)[2]["parameters"] for name in ("5m", "85m", "130m", "430m")]
    assert counts == [5_068_878, 84_519_961, 128_663_065, 424_716_697]


def test_counts_of_the_workstation_study():
    # By hand, of 45m: 12,102 x 768 + 12,101 for the items; five blocks of 7,087,872; 632,064 around them.
    counts = [count(name, WORKSTATION)[2]["parameters"] for name in ("900k", "6m", "45m")]
    assert counts == [894_213, 6_348_869, 9_306_437 + 5 * 7_087_872 + 632_064]
