"""After training: the saved adapter, by plain transformers and PEFT, gives the loss that training had on a fixed text.

A training records its loss on the beginning of its first row, in training.json. The evaluation is another process,
which reads the adapter from its file. Before it scores, it computes that loss by the libraries' own forward pass, as
anyone who loads the adapter would. An adapter that was saved in part, scaled otherwise, exchanged, or trained in a
forward pass that the library does not have, is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.llm.forward_check import library_forward
from frugal.llm.loading import without_adapter
from frugal.llm.packed import collate

#: At most this many tokens of the first row.
TOKENS = 256
#: Relative differences of the mean loss that rounding explains, by quantisation or dtype. Measured with SmolLM2-135M on
#: 256 tokens, trained by fused layers, with and without autocast, on one thread and two: below 1e-6 in float32, up to
#: 0.0016 in bfloat16, 0.0025 with 4 bits, 0.0016 with integer matmuls.
TOLERANCES = {"float32": 5e-5, "bfloat16": 0.01, "float16": 0.01, "nf4": 0.01, "int8": 0.03}


def training_loss(trainer, rows: Sequence[Mapping[str, Any]], packed: bool) -> dict[str, Any]:
    """The loss of a trained model on the beginning of the first row; every process computes it.

    Args:
        trainer: within `frugal.llm.trainer.training_mode`.
        rows: of training, `input_ids` of each.
        packed: whether the trainer takes batches of `frugal.llm.packed.collate`.

    Returns:
        "loss", in nats per token, and "tokens", the ids of the text.
    """
    ids = list(map(int, rows[0]["input_ids"][:TOKENS]))
    if packed:
        batch = collate([{"input_ids": ids}])
    else:
        row = torch.tensor([ids])
        batch = {"input_ids": row, "labels": row.clone(), "attention_mask": torch.ones_like(row)}
    trainer.model.eval()
    loss, _, _ = trainer.prediction_step(trainer.model, batch, prediction_loss_only=True)
    return {"loss": loss.item(), "tokens": ids}


def plain_loss(model, ids: Sequence[int]) -> float:
    """The mean loss of a text, in nats per token, by the libraries' forward pass with their plainest attention."""
    tokens = torch.tensor(ids, device=model.device)
    with torch.no_grad(), library_forward(without_adapter(model)):
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float()
    return F.cross_entropy(logits, tokens[1:]).item()


def check_adapter(model, settings: ModelSettings, folder: Path | None, training: Path | None) -> dict[str, Any] | None:
    """Compare the loss of a loaded adapter with the one that its training recorded.

    Args:
        model: the base model with the adapter, as `from_pretrained` of transformers and of PEFT gave it, in eval mode
            and outside `mixed_precision`. With 8-bit weights, which the libraries do not have, its layers are Frugal's.
        settings: its compute_dtype is resolved.
        folder: of the adapter; None: there is none, and nothing to compare.
        training: its training.json.

    Returns:
        For the record: the number of tokens, the loss in training and the plain one, that of the base model, which
        shows how much the adapter does there, the tolerance, and whose layers computed it; or why nothing was compared.

    Raises:
        FrugalError: the losses differ by more than rounding.
    """
    if folder is None:
        return None
    record = read_json(training) if training else {}
    if "check" not in record:
        return {"left_out": "the training recorded no loss to compare with"}
    expected, ids = record["check"]["loss"], record["check"]["tokens"]
    loss = plain_loss(model, ids)
    with model.disable_adapter():
        without = plain_loss(model, ids)
    names = {settings.quantization, settings.compute_dtype, record.get("compute_dtype")} & TOLERANCES.keys()
    tolerance = max(TOLERANCES[name] for name in names) * max(1, abs(expected))
    if not abs(loss - expected) <= tolerance:  # nor is it where one of them is not a number
        raise FrugalError(
            f"{folder}: is not the adapter that was trained: on {len(ids)} tokens its loss is {loss:.5f} in plain PEFT "
            f"and was {expected:.5f} in training, where rounding explains {tolerance:.5f} (without an adapter "
            f"{without:.5f}). Delete the folder and train the variant again"
        )
    layers = "frugal's 8-bit layers below peft" if settings.quantization == "int8" else "transformers and peft"
    losses = {"training_loss": expected, "plain_loss": loss, "loss_without_adapter": without}
    return {"tokens": len(ids), **losses, "tolerance": tolerance, "layers": layers}
