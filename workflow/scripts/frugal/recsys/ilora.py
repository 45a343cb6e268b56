"""Instance-wise LoRA: one adapter cut into experts, which a gate weighs for each sequence.

Kong et al. (2024), "Customizing Language Models with Instance-wise LoRA for Sequential Recommendation".
A and B of rank r are cut into K blocks of rank r / K, the experts, and a linear layer is changed to

    h = W0 x + (lora_alpha / r) * sum_k w_k B_k A_k x,    w = softmax(gate(sequence)),

where the sequence is the mean of its embedded items. One gate serves the whole network.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from frugal.errors import FrugalError, blaming
from frugal.files import atomic_path, read_json, write_json
from frugal.recsys.modeling import Recommender

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


@dataclass
class ExpertWeights:
    """What the gate says in the current forward pass, where all layers find it.

    Attributes:
        by_rank: (batch, 1 or length, r): the weight of each row of A, that of its expert.
        selected: (n, r): the same for the positions that the last block goes on with.
    """

    by_rank: torch.Tensor | None = None
    selected: torch.Tensor | None = None

    def of(self, hidden: torch.Tensor) -> torch.Tensor:
        """The weights for states (batch, length, width) or, of selected positions, (n, width)."""
        return self.by_rank if hidden.dim() == 3 else self.selected


class Gate(nn.Module):
    """Softmax weights of the experts, from the mean of a sequence's embedded items.

    A model that reads in both directions has one mean for a sequence. In a causal model each position has
    that of the items up to itself: the mean of all would tell it what comes next, which is its target.
    """

    def __init__(self, width: int, r: int, experts: int, causal: bool, weights: ExpertWeights):
        super().__init__()
        self.causal, self.block, self.weights = causal, r // experts, weights
        self.projection = nn.Linear(width, experts)
        # All experts begin with the same weight; what they learn differs, because their A does.
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, embedded: torch.Tensor, lengths: torch.Tensor, selected: torch.Tensor | None = None) -> None:
        """Set the weights for sequences embedded as (batch, length, width), of ``lengths`` (batch,).

        ``selected``, int64, (n,): positions in the flattened batch, see `Recommender.encode`.
        """
        # The projection of a mean is the mean of the projections, which are smaller.
        with torch.autocast(embedded.device.type, enabled=False):
            projected = self.projection(embedded)
        position = torch.arange(1, embedded.shape[1] + 1, device=embedded.device)
        if self.causal:
            logits = projected.cumsum(1) / position[:, None]
        else:
            real = position <= lengths[:, None]
            logits = (projected * real[..., None]).sum(1, keepdim=True) / lengths[:, None, None]
        self.weights.by_rank = logits.softmax(-1).repeat_interleave(self.block, dim=-1)
        if selected is not None:
            everywhere = self.weights.by_rank.expand(-1, embedded.shape[1], -1)
            self.weights.selected = everywhere.flatten(0, 1)[selected]


class ILoraLinear(nn.Module):
    """A frozen linear layer and its experts: ``lora_A`` is (r, inputs), ``lora_B`` (outputs, r)."""

    def __init__(self, base: nn.Linear, r: int, lora_alpha: float, weights: ExpertWeights):
        super().__init__()
        self.base, self.scale, self.weights = base, lora_alpha / r, weights
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as PEFT does
        self.to(base.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(batch, length, inputs) to (batch, length, outputs); of selected positions (n, inputs) to (n, outputs)."""
        reduced = F.linear(hidden, self.lora_A)
        weighted = reduced * (self.scale * self.weights.of(hidden)).to(reduced.dtype)
        return self.base(hidden) + F.linear(weighted, self.lora_B)

    def merge(self) -> None:
        """Plain LoRA can be added to the weights of its layer; this cannot.

        Raises:
            FrugalError: always.
        """
        raise FrugalError(
            "an iLoRA adapter cannot be merged: its update of the weights differs from sequence to sequence; "
            "keep it beside its backbone, or train with adapter.method 'lora'"
        )


def add_ilora(model: Recommender, r: int, lora_alpha: float, experts: int, target_modules: list[str]) -> Recommender:
    """Freeze ``model`` and put experts beside its linear layers of these names; changes it in place.

    The new weights are drawn from torch's global generator.

    Raises:
        FrugalError: r is no multiple of ``experts``, or no linear layer has such a name.
    """
    if r % experts:
        raise FrugalError(f"adapter.r {r} cannot be cut into {experts} experts of equal rank")
    targets = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if name in target_modules and isinstance(layer, nn.Linear)
    ]
    if not targets:
        raise FrugalError(f"adapter.target_modules {target_modules}: the model has no linear layer of such a name")
    model.requires_grad_(False)
    weights = ExpertWeights()
    for parent, name, layer in targets:
        setattr(parent, name, ILoraLinear(layer, r, lora_alpha, weights))
    # A module that is assigned becomes a part of the model: the gate moves, trains and is saved with it.
    model.on_embedded = Gate(model.config.width, r, experts, model.config.causal, weights).to(targets[0][2].weight)
    model.ilora_config = {
        "method": "ilora",
        "r": r,
        "lora_alpha": lora_alpha,
        "experts": experts,
        "target_modules": list(target_modules),
    }
    return model


def save_ilora(model: Recommender, folder: Path) -> None:
    """Write what `add_ilora` added: adapter_model.safetensors and adapter_config.json, without the backbone."""
    added = {name: weight.detach().cpu().contiguous() for name, weight in _added(model).items()}
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_file(added, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        write_json(temporary / CONFIG_FILE, model.ilora_config)


def load_ilora(model: Recommender, folder: Path) -> Recommender:
    """``model`` with the adapter that `save_ilora` wrote; changes it in place.

    Raises:
        FrugalError: the folder holds no iLoRA adapter, or one for another model.
    """
    folder = Path(folder)
    with blaming(folder, "holds no iLoRA adapter that can be read", "; train the variant again"):
        config = read_json(folder / CONFIG_FILE)
        saved = load_file(folder / WEIGHTS_FILE)
        arguments = {key: config[key] for key in ("r", "lora_alpha", "experts", "target_modules")}
        added = _added(add_ilora(model, **arguments))
    if {name: weight.shape for name, weight in added.items()} != {name: weight.shape for name, weight in saved.items()}:
        raise FrugalError(f"{folder}: the adapter belongs to another model; give the backbone that it was trained on")
    with torch.no_grad():
        for name, weight in added.items():
            weight.copy_(saved[name])
    return model


def _added(model: Recommender) -> dict[str, nn.Parameter]:
    """The weights of experts and gate, by their names in the model."""
    return {
        f"{prefix}.{name}": weight
        for prefix, module in model.named_modules()
        if isinstance(module, ILoraLinear | Gate)
        for name, weight in module.named_parameters()
        if not name.startswith("base.")
    }
