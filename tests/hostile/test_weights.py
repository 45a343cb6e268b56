"""Broken and hostile files of weights: nothing of them is run, and each fault is named."""

import io
import json
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from frugal.files import write_json
from frugal.recsys.modeling import SASRec
from frugal.recsys.warm_start import read_weights, warm_start

from .conftest import MARKER, Planted, examples
from .mutations import as_json, broken_bytes, changed, edits


def small_model() -> SASRec:
    shape = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    return SASRec(SASRec.config_class(item_count=5, max_position_embeddings=4, **shape))


STATE = {name: tensor.clone() for name, tensor in small_model().state_dict().items()}
NAME = next(iter(STATE))


def torch_file(content: object, legacy: bool = False) -> bytes:
    sink = io.BytesIO()
    torch.save(content, sink, _use_new_zipfile_serialization=not legacy)
    return sink.getvalue()


def with_pickle(data: bytes) -> bytes:
    """A torch file with another pickle beside its tensors."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_file(STATE))) as old, zipfile.ZipFile(sink, "w") as bundle:
        for info in old.infolist():
            bundle.writestr(info.filename, data if info.filename.endswith("data.pkl") else old.read(info))
    return sink.getvalue()


CONTENTS = {
    "weights": STATE,
    "code": Planted(),
    "code among weights": {**STATE, "x": Planted()},
    "code as a name": {Planted(): 1},
    "nested": {"state_dict": {"state_dict": STATE}},
    "empty section": {"state_dict": {}},
    "list": [STATE],
    "nothing": {},
    "numbers": {"a": 1},
    "no name": {1: torch.ones(1)},
    "odd names": {"a\nb\x1b[31m\ud800": torch.ones(2), **STATE},
    "long name": {"a" * 100_000: torch.ones(1)},
    "sparse": {NAME: torch.eye(3).to_sparse()},
    "meta": {NAME: torch.empty(STATE[NAME].shape, device="meta")},
    "complex": {NAME: STATE[NAME].to(torch.complex64)},
    "integers": {NAME: STATE[NAME].to(torch.int64)},
    "bits": {NAME: STATE[NAME].to(torch.float8_e4m3fn)},
    "not finite": {NAME: STATE[NAME] * float("nan")},
    "too large": {NAME: torch.ones(1).expand(10**9, 10**3)},
    "another shape": {name: torch.ones(1, 1, 1) for name in STATE},
    "parameter": {NAME: torch.nn.Parameter(STATE[NAME])},
    "prefix": {"module." + name: tensor for name, tensor in STATE.items()} | {"module.": torch.ones(1)},
}
PICKLES = [
    pickle.dumps(Planted()),
    pickle.dumps({"state_dict": Planted()}),
    f"cos\nsystem\n(S'touch {MARKER}'\ntR.".encode(),
    b"\x80\x02}q\x00.",
    b"\x80\xff.",
    b"(" * 10_000 + b".",
    b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x00None\x85R.",
]
SAFE = save({name: tensor.contiguous() for name, tensor in STATE.items()})
(LENGTH,) = struct.unpack("<Q", SAFE[:8])


def safe_file(header: object, data: bytes = SAFE[8 + LENGTH :]) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADER = json.loads(SAFE[8 : 8 + LENGTH])
TENSOR = HEADER[NAME]
SAFE_HEADERS = [
    *[b"{}", b"", b"[]", b"{", b"[" * 10_000, b'{"a": 1}', b"\xff\xfe"],
    {**HEADER, "x": {**TENSOR, "data_offsets": [0, 2**63]}},
    {**HEADER, "__metadata__": {"a": 1}},
    {**HEADER, "__metadata__": None},
    {NAME: TENSOR, "b": TENSOR},
    {NAME: {**TENSOR, "dtype": "O"}},
    {NAME: {**TENSOR, "dtype": "F8_E4M3"}},
    {NAME: {**TENSOR, "shape": [-1, 4]}},
    {NAME: {**TENSOR, "shape": [2**40, 2**40]}},
    {NAME: {**TENSOR, "shape": []}},
    {"\x1b[31m": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
]
weights = st.one_of(
    st.tuples(st.just(".pth"), st.sampled_from(sorted(CONTENTS)), st.booleans()).map(
        lambda wrong: (wrong[0], torch_file(CONTENTS[wrong[1]], wrong[2]))
    ),
    st.tuples(st.sampled_from([".pth", ".pt"]), broken_bytes(torch_file(STATE))),
    st.tuples(st.just(".pth"), broken_bytes(torch_file(STATE, legacy=True))),
    st.tuples(st.just(".pth"), st.sampled_from(PICKLES)),
    st.tuples(st.just(".pt"), st.sampled_from(PICKLES).map(with_pickle)),
    st.tuples(st.just(".safetensors"), broken_bytes(SAFE)),
    st.tuples(st.just(".safetensors"), st.sampled_from(SAFE_HEADERS).map(safe_file)),
    st.tuples(
        st.just(".safetensors"), edits(HEADER).map(lambda faults: safe_file(as_json(changed(HEADER, faults)).encode()))
    ),
    st.tuples(st.sampled_from([".bin", ".pkl", "", ".npz"]), st.just(torch_file(STATE))),
)


def start(path: Path) -> None:
    """What a training script does with the weights to begin with."""
    write_json(path.with_name("report.json"), warm_start(small_model(), read_weights(path)))


def check_weights(sandboxes, wrong: tuple[str, bytes], outcomes: Counter) -> None:
    suffix, content = wrong
    with sandboxes() as sandbox:
        path = sandbox.inputs / f"weights{suffix}"
        path.write_bytes(content)
        message = sandbox.ask(start, path)
    outcomes["refused" if message else "good"] += 1
    # What the model cannot take is told without the file, which `warm_start` does not know.
    named = ("none of the weights to start from", "the weights to start from")
    assert message is None or str(path) in message or message.startswith(named), message


def test_broken_weights(sandboxes):
    outcomes = Counter()

    @examples(150)
    @given(weights)
    def check(wrong):
        check_weights(sandboxes, wrong, outcomes)

    check()
    assert outcomes["refused"] >= 70, outcomes
