"""The tables: what they hold, and what is said of a mistake in one."""

from pathlib import Path

import pytest

from frugal.config.registry import load_datasets, load_entry, load_models, missing_token, table_json
from frugal.config.sources import HubSource, PackageSource, source_kind
from frugal.errors import FrugalError

CONFIG = Path(__file__).parents[3] / "config"


def write(tmp_path: Path, source: str, more: str = "") -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(f"datasets:\n  mine:\n    title: Mine\n    sources:\n      - {source}\n{more}")
    return path


def test_the_tables_that_come_with_the_project() -> None:
    datasets, models = load_datasets(CONFIG / "datasets.yaml"), load_models(CONFIG / "models.yaml")
    assert {"movielens-100k", "movielens-1m", "movielens-20m"} <= set(datasets)
    assert source_kind(datasets["movielens-100k"].sources[0]) == "package"
    assert models["smollm2-135m-instruct"].parameters == 134515008
    assert source_kind(models["tiny-random-llama"].sources[0]) == "random"
    for entry in [*datasets.values(), *models.values()]:
        assert entry.licence
        for source in entry.sources:
            if isinstance(source, PackageSource):
                assert source.sha256
                assert source.size
            if isinstance(source, HubSource):
                assert entry.gated
                assert len(source.revision) == 40


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "{url: http://x/a.zip, sha255: x}",
            "datasets.mine.sources.0.sha255: unknown key; did you mean 'sha256'",
        ),
        ("{url: http://x/a.zip, path: a.zip}", "needs exactly one of url, urls, package, path; found url and path"),
        ("{hub: org/x, revision: main}", "needs exactly one of url, urls, package, path; found hub"),
        ("{format: csv}", "needs exactly one of .* found none"),
        ("just words", "needs exactly one of"),
        ("{url: file:///etc/passwd}", "must be an http or https address"),
        ("{url: http://x/a.zip, sha256: abc}", "sources.0.sha256"),
        ("{url: http://x/a.zip, format: movielens}", "sources.0.format: must be 'movielens-100k'"),
        ("{url: http://x/a.zip, format: csv}", "needs 'columns'"),
        ("{url: http://x/a.zip, file: ../a.zip}", "must be a plain file name"),
        ("{path: a, members: {a: x/same, b: y/same}}", "two members have the same file name"),
        ("{path: a, format: recbole, members: {items: a.item}}", "members must name 'ratings'"),
        ("{path: a, format: amazon-json, members: {data: a.gz}}", "members must name 'ratings'"),
        ("{path: a, encoding: utf-16}", "must be utf-8 or an encoding of one byte"),
        ("{path: a, encoding: no-such}", "must be utf-8 or an encoding of one byte"),
        ("{path: a, separator: ''}", "separator"),
        ("{path: a, format: wikitext, members: {train: a, test: b}}", "files of 'train', 'validation' and 'test'"),
        ("{urls: [http://x/a.pdf], format: pdf}", "sources.0.file: this key is required"),
        ("{urls: [], file: reports}", "sources.0.urls"),
        ("{urls: [ftp://x/a.pdf], file: reports}", "must be an http or https address"),
        ("{urls: [http://x/a.pdf, http://y/a.pdf], file: reports}", "a file name of its own"),
        ("{urls: [http://x/], file: reports}", "a file name of its own"),
        ("{urls: [http://x/a.pdf], file: reports, size: 3}", "urls goes without sha256, md5 and size"),
        ("{package: 'recbole>=1', file: a.whl}", "sources.0.package"),
        ("{package: '--index-url==1', file: a.whl}", "sources.0.package"),
        ("{package: recbole==1.2.1}", "sources.0.file: this key is required"),
    ],
)
def test_a_mistake_in_a_source_is_named(tmp_path: Path, source: str, words: str) -> None:
    path = write(tmp_path, source)
    with pytest.raises(FrugalError, match=words) as caught:
        load_datasets(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("    titel: x\n", "datasets.mine.titel: unknown key; did you mean 'title'"),
        ("    on_bad_rows: ignore\n", "on_bad_rows: must be 'error' or 'skip'"),
        ("    min_interactions: 0\n", "datasets.mine.min_interactions"),
        ("    pdf_reader: pypdf2\n", "pdf_reader: must be 'pypdf' or 'PyPDF2'"),
        ("    page_seconds: 0\n", "datasets.mine.page_seconds"),
        ("    near_duplicate_similarity: 1.5\n", "datasets.mine.near_duplicate_similarity"),
        ("    min_characters: -1\n", "datasets.mine.min_characters"),
        ("    rating_range: [5, 1]\n", r"rating_range must be \[lowest, highest\]"),
        ("    title: again\n", "line 6: not valid YAML: the key 'title' is given twice"),
        ("  mine:\n    title: x\n", "line 6: not valid YAML: the key 'mine' is given twice"),
        ("dataset: {}\n", "dataset: unknown key; did you mean 'datasets'"),
        ("    x: [\n", "not valid YAML"),
        ("  two words: {}\n", "a name is made of"),
        ("  other:\n", "datasets.other: expected keys and values"),
        ("  other: {title: x, sources: []}\n", "datasets.other.sources"),
        ("  other: {title: x}\n", "datasets.other.sources: this key is required"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(FrugalError, match=words):
        load_datasets(write(tmp_path, "{path: a}", more))


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FrugalError, match="cannot be read"):
        load_datasets(tmp_path / "absent.yaml")
    for data in (b"", b"- a\n", b"\xff\xfe", b"datasets:\n"):
        (tmp_path / "t.yaml").write_bytes(data)
        with pytest.raises(FrugalError, match=r"t\.yaml"):
            load_datasets(tmp_path / "t.yaml")


def test_the_sets_of_documents_that_come_with_the_project() -> None:
    datasets = load_datasets(CONFIG / "datasets.yaml")
    forms = {name: {source.format for source in entry.sources} for name, entry in datasets.items()}
    assert forms["wikitext-2-raw"] == {"wikitext"}
    assert forms["wikipedia-sample"] == {"wikipedia-dump"}
    assert forms["climate-chapters"] == forms["climate-reports"] == {"pdf"}
    (reports,) = datasets["climate-reports"].sources
    assert source_kind(reports) == "urls"
    assert reports.by_name.keys() >= {"IPCC_AR6_SYR_LongerReport.pdf", "IPCC_AR6_WGI_SPM.pdf"}


def test_an_entry_is_found_in_either_table() -> None:
    assert load_entry(CONFIG / "datasets.yaml", "movielens-1m").title == "MovieLens 1M"
    assert load_entry(CONFIG / "models.yaml", "llama-3.2-1b").gated
    with pytest.raises(FrugalError, match=r"no entry 'movielens-1M'; did you mean 'movielens-1m'\?"):
        load_entry(CONFIG / "datasets.yaml", "movielens-1M")


def test_a_hub_source_needs_a_commit_and_a_model_may_be_random(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  m:\n    title: M\n    sources: [{hub: org/m, revision: main}]\n")
    with pytest.raises(FrugalError, match=r"models\.m\.sources\.0\.revision"):
        load_models(path)
    path.write_text("models:\n  m:\n    title: M\n    sources: [{random: {hidden_size: 0}}]\n")
    with pytest.raises(FrugalError, match=r"models\.m\.sources\.0\.random\.hidden_size"):
        load_models(path)


def test_the_token_is_looked_for_where_the_hub_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    models = load_models(CONFIG / "models.yaml")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "HF_TOKEN" in missing_token(models["llama-3-8b"])
    assert missing_token(models["smollm2-135m-instruct"]) is None
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "stored")
    assert missing_token(models["llama-3-8b"]) is None
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setenv("HF_TOKEN", "given")
    assert missing_token(models["llama-3-8b"]) is None


def test_an_entry_as_json_is_the_entry():
    datasets, models = load_datasets(CONFIG / "datasets.yaml"), load_models(CONFIG / "models.yaml")
    assert load_datasets(table_json("datasets", datasets)) == datasets
    assert load_models(table_json("models", models)) == models
    assert load_entry(table_json("models", models), "llama-3-8b") == models["llama-3-8b"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("{", "--table: not JSON"),
        ('{"datasets": {}}', "--table: datasets: must hold at least one entry"),
        ('{"data": {}}', "--table: data: unknown key"),
        ('{"datasets": {"a": {"title": "A", "sources": [{"path": "a"}]}}}', "--table: there is no entry 'mine'"),
    ],
)
def test_json_that_is_no_table(table, words):
    with pytest.raises(FrugalError, match=words):
        load_entry(table, "mine")
