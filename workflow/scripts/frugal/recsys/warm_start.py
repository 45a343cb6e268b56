"""Starting from trained weights: reading them without running anything, and taking over those that fit."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from frugal.config.errors import describe as shown
from frugal.errors import FrugalError, first_line
from frugal.recsys.catalogue import CATALOGUE, Catalogue

#: Where training scripts keep the weights in a checkpoint that also holds an optimiser or an epoch.
SECTIONS = ("state_dict", "model_state_dict", "model")
#: Weights with a row for each item, or user; BERT4Rec's item embedding has one more, the mask's.
ITEM_ROWS, USER_ROWS = ("item_embedding.weight", "item_bias"), ("user_embedding.weight",)
#: DistributedDataParallel puts this before every name.
PREFIX = "module."


def read_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """Named tensors, on the CPU, from a folder with model.safetensors, a .safetensors, or a .pth or .pt file.

    Of the latter two only tensors are read: a pickle that would run code is refused. They hold the weights
    themselves or, under "state_dict", "model_state_dict" or "model", beside other things.

    Raises:
        FrugalError: there is no such file, or it holds anything but named tensors.
    """
    path = Path(path)
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FrugalError(f"{file}: no such file; set warm_start.path to a folder with model.safetensors or to a file")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, ValueError, SafetensorError) as error:
            raise FrugalError(f"{file}: cannot be read as safetensors: {first_line(error)}") from None
    if file.suffix not in (".pth", ".pt"):
        raise FrugalError(f"{file}: not a kind of file that is read here; give a .safetensors, .pth or .pt file")
    try:
        content = torch.load(file, weights_only=True, map_location="cpu")
    except Exception:  # a broken or hostile pickle may raise anything; torch's own text advises to run it
        raise FrugalError(
            f"{file}: is not a plain file of weights; save it again with torch.save(model.state_dict(), ...)"
        ) from None
    return _named_tensors(content, file)


def _named_tensors(content: Any, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(content, dict):
        content = next((content[key] for key in SECTIONS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        raise FrugalError(f"{file}: is not a plain file of weights: it holds no named tensors")
    for name, value in content.items():
        dense = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not (isinstance(name, str) and name.isprintable() and dense):
            raise FrugalError(f"{file}: is not a plain file of weights: {shown(name)} is no dense tensor")
    if all(name.startswith(PREFIX) for name in content):
        content = {name.removeprefix(PREFIX): value for name, value in content.items()}
    return dict(content)


def by_id(
    model: nn.Module, weights: dict[str, torch.Tensor], old: Catalogue | None, new: Catalogue
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, int]]]:
    """``weights`` with the rows of items and users where the model has those of the same id.

    Rows that the weights lack are the model's own. Users are the same where all of the data set's are, in which case
    they have the same numbers; else their rows are left out of the weights.

    Args:
        old, new: whose rows the weights and the model have; None where that is not known.

    Returns:
        The weights, and "items" and "users" -> the numbers of rows that were "copied", that are "new" to the weights,
        and that were "left_out" of them; without "users" where the model has none.

    Raises:
        FrugalError: it is not known whose rows the weights have, or they are not as many as there are ids.
    """
    own, weights, counts = model.state_dict(), dict(weights), {}
    if not any(name in own and name in weights for name in (*ITEM_ROWS, *USER_ROWS)):
        return weights, counts
    if old is None:
        raise FrugalError(
            f"the weights to start from have no {CATALOGUE} beside them, so nothing shows which item each row of their "
            "embeddings is: train that model again, or write the file as docs/how-to/own-model.md describes"
        )
    places = {name: row for row, name in enumerate(new.items)}
    found = [(row, places[name]) for row, name in enumerate(old.items) if name in places]
    pairs = {"items": torch.tensor(found, dtype=torch.int64).reshape(-1, 2)}
    sizes = {"items": (len(old.items), len(new.items))}
    for name in USER_ROWS:
        if name in own and name in weights:
            shared = min(len(weights[name]), len(own[name])) if old.users and old.users == new.users else 0
            pairs["users"] = torch.arange(shared)[:, None].expand(-1, 2)
            sizes["users"] = len(weights[name]), len(own[name])
            if not shared:
                del weights[name]
    for group, names in (("items", ITEM_ROWS), ("users", USER_ROWS)):
        for name in names:
            if name not in own or name not in weights or weights[name].shape[1:] != own[name].shape[1:]:
                continue  # `warm_start` reports it
            rows, here = pairs[group], sizes[group]
            more = len(weights[name]) - here[0]
            if more not in (0, 1) or more != len(own[name]) - here[1]:
                raise FrugalError(
                    f"the weights to start from have {len(weights[name])} rows in {name!r}, and {CATALOGUE} beside "
                    f"them lists {here[0]} {group}: use the file of the same model"
                )
            merged = own[name].clone()
            merged[rows[:, 1]] = weights[name][rows[:, 0]].to(merged.dtype)
            if more:
                merged[-1] = weights[name][-1]
            weights[name] = merged
    for group, (before, after) in sizes.items():
        copied = len(pairs[group])
        counts[group] = {"copied": copied, "new": after - copied, "left_out": before - copied}
    return weights, counts


def warm_start(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, list]:
    """Copy into ``model`` every tensor that has the name and the shape of one of its own.

    Embeddings of another catalogue, of other users or of longer sequences are left out, and keep the values
    that the model has.

    Returns:
        "loaded": names; "skipped": {"name", "reason"} of tensors that do not fit; "missing": names that the
        model has and ``weights`` do not.

    Raises:
        FrugalError: nothing fits, or a tensor that does has values that are not finite; the model is unchanged.
    """
    own = model.state_dict()
    fitting, skipped = {}, []
    for name, tensor in weights.items():
        if reason := _misfit(tensor, own.get(name)):
            skipped.append({"name": name, "reason": reason})
            continue
        fitting[name] = tensor.to(own[name].dtype)
        if not fitting[name].isfinite().all():
            raise FrugalError(f"the weights to start from have values in {name!r} that are not finite: use others")
    if not fitting:
        raise FrugalError(
            "none of the weights to start from fits, they are a checkpoint of another architecture: "
            f"it holds {_some(weights)}; expected are {_some(own)}"
        )
    for name, tensor in fitting.items():
        own[name].copy_(tensor)
    return {"loaded": list(fitting), "skipped": skipped, "missing": [name for name in own if name not in weights]}


def describe(report: dict[str, Any]) -> str:
    """The report of `warm_start` for a log, several lines."""
    lines = [f"warm start: {len(report['loaded'])} tensors loaded, {len(report['skipped'])} skipped"]
    lines += [
        f"  {group:<8} {counts['copied']:,} rows copied by id, {counts['new']:,} new here, "
        f"{counts['left_out']:,} not in this data"
        for group, counts in report.get("rows", {}).items()
    ]
    lines += [f"  loaded   {name}" for name in report["loaded"]]
    lines += [f"  skipped  {entry['name']}: {entry['reason']}" for entry in report["skipped"]]
    lines += [f"  missing  {name}: not in the weights, begins untrained" for name in report["missing"]]
    return "\n".join(lines)


def _misfit(tensor: torch.Tensor, own: torch.Tensor | None) -> str | None:
    """Why ``tensor`` cannot be taken for ``own``, or None if it can."""
    if own is None:
        return "the model has no weights of this name"
    if tensor.shape != own.shape:
        return f"its size is {_size(tensor)}, the model's is {_size(own)}"
    if not tensor.is_floating_point():
        return f"its type is {str(tensor.dtype).removeprefix('torch.')}, not floating point"
    return None


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _some(tensors: dict[str, torch.Tensor]) -> str:
    shown = ", ".join(f"{name} ({_size(tensor)})" for name, tensor in list(tensors.items())[:3])
    return f"{shown} and {len(tensors) - 3} more" if len(tensors) > 3 else shown or "nothing"
