"""The Hub's own client against a stand-in for the Hub: what arrives, and each refusal as a sentence."""

import errno
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from frugal.config.registry import ModelEntry
from frugal.config.sources import HubSource
from frugal.data.source.fetch import fetch
from frugal.errors import FrugalError
from frugal.rehearsal.server import TOKEN, Fault, Repository, Site, StandInServer

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": bytes(range(256)) * 64,
    "model-00002-of-00002.safetensors": b"second",
    "tokenizer.json": b"{}",
    "original/consolidated.00.pth": b"pickled",
    "README.md": b"words",
}
COMMIT = "c" * 40


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    site = Site(repositories={"meta/llama": Repository(COMMIT, FILES, gated=True)})
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)  # between the client's own attempts
    with StandInServer(site) as server:
        former = constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", re.sub(r"^https?://[^/]+", server.url, former))
        yield site


def fetch_llama(folder: Path, revision: str = COMMIT, hub: str = "meta/llama") -> set[str]:
    entry = ModelEntry(title="Llama", sources=(HubSource(hub=hub, revision=revision),), gated=True)
    fetch("llama", entry, folder / "raw", downloads=folder / "downloads")
    return {str(path.relative_to(folder / "raw")) for path in (folder / "raw").rglob("*") if path.is_file()}


def test_weights_and_tokenizer_arrive_and_pickled_weights_are_not_asked_for(site, tmp_path):
    kept = {name for name in FILES if name.endswith((".json", ".safetensors"))}
    assert fetch_llama(tmp_path) == {*kept, "source.json"}
    for name in kept:
        assert (tmp_path / "raw" / name).read_bytes() == FILES[name]
    assert not any("consolidated" in request for request in site.requests)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("tree", 401), "does not accept this access token"),
        (Fault("tree", 401, code="RepoNotFound"), "does not accept this access token"),
        (
            Fault("tree", 403, code="GatedRepo"),
            "may not read it; accept its licence at https://huggingface.co/meta/llama",
        ),
        (Fault("tree", 403), "fine-grained token"),
        (Fault("tree", 404, code="RepoNotFound"), "no such repository or revision"),
        (Fault("tree", 404, code="RevisionNotFound"), "no such repository or revision"),
        (Fault("tree", 429), "too many requests"),
        (Fault("tree", 503), "the Hub answers 503; try again later"),
        (Fault("safetensors", 403, code="GatedRepo"), "accept its licence"),
        (Fault("safetensors", 503), "the Hub answers 503; try again later"),
        (Fault("safetensors", 429), "too many requests"),
        (Fault("00001-of", 200, share=0.5), "the connection ended in the middle of a file"),
    ],
    ids=lambda value: f"{value.status} {value.pattern} {value.code}" if isinstance(value, Fault) else "",
)
def test_a_refusal_is_a_sentence(site, tmp_path, fault, message):
    site.faults.append(fault)
    with pytest.raises(FrugalError) as caught:
        fetch_llama(tmp_path)
    reason = str(caught.value).splitlines()[1]
    assert message in reason
    assert reason.startswith("  - meta/llama: ")
    assert "Error" not in reason
    assert TOKEN not in str(caught.value)
    assert not (tmp_path / "raw").exists()
    # When the fault is gone, the same call continues.
    site.faults.clear()
    assert "config.json" in fetch_llama(tmp_path)
    assert (tmp_path / "raw/model-00001-of-00002.safetensors").read_bytes() == FILES["model-00001-of-00002.safetensors"]


def test_a_token_without_access_and_none_at_all(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(FrugalError, match="this token may not read it; accept its licence"):
        fetch_llama(tmp_path)
    site.repositories["meta/llama"] = Repository("d" * 40, FILES)
    with pytest.raises(FrugalError, match="no such repository or revision"):
        fetch_llama(tmp_path)


def test_a_full_disk(site, tmp_path, monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(FrugalError, match=r"model\.safetensors: the disk is full"):
        fetch_llama(tmp_path)
    assert not (tmp_path / "raw").exists()


def test_nobody_answers(site, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FrugalError, match="meta/llama: no connection to the Hub"):
        fetch_llama(tmp_path)
