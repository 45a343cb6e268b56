"""Numbers of weights, worked out by hand; without memory for them where there are many."""

import pytest
import torch

from frugal.recsys.configuration import BERT4RecConfig
from frugal.recsys.modeling import BERT4Rec

# With width w and inner width f a block has two norms of 2 w, query_key_value 3 w w + 3 w,
# attention_output w w + w, up w f + f and down f w + w. Width 4, f = 8: 16 + 60 + 20 + 40 + 36 = 172;
# width 8: 32 + 216 + 72 + 72 + 72 = 464. Besides: 6 positions, a last norm, a bias for each of 7 items.


def test_sasrec(make_model):
    assert make_model("sasrec").parameter_counts() == {
        "parameters": 28 + 7 + 24 + 2 * 172 + 8,
        "item_embedding_parameters": 28 + 7,
        "user_embedding_parameters": 0,
        "encoder_parameters": 24 + 2 * 172 + 8,
    }


def test_ssept(make_model):
    # Items have half the width of 8, and so have the 3 users.
    assert make_model("ssept").parameter_counts() == {
        "parameters": 28 + 7 + 12 + 48 + 2 * 464 + 16,
        "item_embedding_parameters": 28 + 7,
        "user_embedding_parameters": 12,
        "encoder_parameters": 48 + 2 * 464 + 16,
    }


def test_bert4rec(make_model):
    # The mask has an embedding and no bias; the head is a layer of 4 x 4 + 4 and a norm.
    assert make_model("bert4rec").parameter_counts() == {
        "parameters": 32 + 7 + 24 + 2 * 172 + 8 + 20 + 8,
        "item_embedding_parameters": 32 + 7,
        "user_embedding_parameters": 0,
        "encoder_parameters": 24 + 2 * 172 + 8 + 20 + 8,
    }


@pytest.mark.parametrize("kind", ["sasrec", "ssept", "bert4rec"])
def test_rotary_positions_have_no_weights(make_model, kind):
    learned, rotary = (make_model(kind, positions=positions) for positions in ("learned", "rotary"))
    width = learned.config.width
    assert learned.parameter_counts()["parameters"] - rotary.parameter_counts()["parameters"] == 6 * width


def test_bert4rec_of_the_size_of_bert_base():
    # 12 blocks of width 768 and inner width 3072: 3072 + 1,771,776 + 590,592 + 2,362,368 + 2,360,064 = 7,087,872 each.
    config = BERT4RecConfig(
        item_count=63_001,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=200,
    )
    with torch.device("meta"):
        model = BERT4Rec(config)
    encoder = 200 * 768 + 12 * 7_087_872 + 1536 + (590_592 + 1536)
    items = 63_002 * 768 + 63_001
    assert model.parameter_counts() == {
        "parameters": encoder + items,
        "item_embedding_parameters": items,
        "user_embedding_parameters": 0,
        "encoder_parameters": encoder,
    }
    assert all(weight.is_meta for weight in model.parameters())
