"""`make new-study`: a study for each kind and for one's own data, and what is refused."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import new_study
from frugal.config.own_data import describe_source
from frugal.config.study import read_study
from frugal.errors import FrugalError
from frugal.kinds import KINDS, LANGUAGE_MODELING, PREFERENCE, RECOMMENDATION

RATINGS = "userId,movieId,rating,timestamp\n1,2,3.5,99\n"
FILMS = "movieId,title,genres\n2,Heat (1995),Action|Crime\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with this project's configuration, and data beside it."""
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    for file in ["config.yaml", "datasets.yaml", "models.yaml", "originals.yaml", "templates"]:
        (folder / "config" / file).symlink_to(Path("config", file).resolve())
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make(monkeypatch, name="shop", kind="recommendation", data="", columns=()):
    options = [f"--name={name}", f"--kind={kind}", f"--data={data}", "--fields", *columns]
    monkeypatch.setattr(sys, "argv", ["new_study.py", *options])
    new_study.main()


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_of_each_kind_is_whole_as_it_stands(project, monkeypatch, capsys, kind):
    make(monkeypatch, kind=kind)
    study = read_study("config/shop.yaml")
    (experiment,) = study.experiments.values()
    assert (study.name, experiment.kind.name) == ("shop", kind)
    (dataset,) = {run.dataset for run in experiment.runs.values()}
    assert dataset in study.datasets
    assert experiment.shared.training.gpus == "auto"
    assert "make report STUDY=shop" in capsys.readouterr().out
    assert sorted(path.name for path in Path("config").iterdir() if not path.is_symlink()) == ["shop.yaml"]


def test_a_ratings_file_is_the_data_set(project, monkeypatch, capsys):
    write(project / "my data/ratings: all.csv", "\ufeffCustomer ID;SKU;stars;when\nann;a;5;1600000000\n")
    make(monkeypatch, data="my data/ratings: all.csv")
    source = read_study("config/shop.yaml").datasets["shop"].sources[0]
    assert source.path == "my data/ratings: all.csv"
    assert source.separator == ";"
    columns = {"user": "Customer ID", "item": "SKU", "rating": "stars", "timestamp": "when"}
    assert source.columns.model_dump() == columns
    assert "note:" not in capsys.readouterr().out


def test_parts_of_a_table_become_a_pattern(project, monkeypatch, tmp_path):
    for name, text in {"part-0.csv": RATINGS, "part-1.csv": RATINGS, "part-2.csv": "", "_SUCCESS": ""}.items():
        write(tmp_path / "films/out" / name, text)
    write(tmp_path / "films/movies.csv", FILMS)
    make(monkeypatch, kind="preference", data=tmp_path / "films")
    source = read_study("config/shop.yaml").datasets["shop"].sources[0]
    assert source.members == {"ratings": "out/part-*.csv", "items": "movies.csv"}


def test_titles_and_genres_come_from_a_file_beside_the_ratings(project, monkeypatch, tmp_path):
    write(tmp_path / "films/ratings.csv", RATINGS)
    write(tmp_path / "films/movies.csv", FILMS)
    make(monkeypatch, kind="preference", data=tmp_path / "films")
    source = read_study("config/shop.yaml").datasets["shop"].sources[0]
    assert source.path == str(tmp_path / "films")
    assert source.members == {"ratings": "ratings.csv", "items": "movies.csv"}
    columns = source.item_columns.model_dump(exclude_none=True)
    assert columns == {"item": "movieId", "title": "title", "attributes": "genres"}
    (experiment,) = read_study("config/shop.yaml").experiments.values()
    assert (experiment.shared.items.attribute, experiment.shared.items.attributes) == ("genre", "genres")
    assert experiment.shared.pairs.reasoning_fraction > 0


def test_items_may_have_titles_alone(project, monkeypatch):
    write(project / "films/ratings.csv", RATINGS)
    write(project / "films/movies.csv", "movieId,title\n2,Heat\n")
    make(monkeypatch, kind="preference", data="films")
    (experiment,) = read_study("config/shop.yaml").experiments.values()
    assert experiment.shared.items.attribute is None
    assert not experiment.shared.pairs.history_attributes


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("Categories", ("category", "categories")),
        ("main_genre", ("main genre", "main genres")),
        ("42", ("attribute", "attributes")),
    ],
)
def test_attributes_are_called_after_their_column(column, words):
    assert tuple(new_study._attribute_words(column).values()) == words


def test_parquet_and_sequences(tmp_path):
    pq.write_table(pa.table({"uid": [1], "asin": ["b"]}), tmp_path / "buys.parquet")
    source, notes = describe_source(tmp_path / "buys.parquet", RECOMMENDATION, {})
    assert source == {
        "path": str(tmp_path / "buys.parquet"),
        "format": "parquet",
        "columns": {"user": "uid", "item": "asin"},
    }
    assert [note.split(":")[0] for note in notes] == ["No column of ratings", "No column of times"]
    sequences = write(tmp_path / "visits.txt", "ann a b c\n")
    assert describe_source(sequences, RECOMMENDATION, {})[0] == {"path": str(sequences), "format": "sequences"}


def test_given_columns_win_over_guesses(tmp_path):
    file = write(tmp_path / "a.csv", "user,reader,book,score\n1,2,3,4\n")
    assert describe_source(file, RECOMMENDATION, {})[0]["columns"]["user"] == "user"
    source, _ = describe_source(file, RECOMMENDATION, {"user": "reader"})
    assert source["columns"] == {"user": "reader", "item": "book", "rating": "score"}


def test_files_of_a_split_are_found_by_their_names(project, monkeypatch):
    (folder := project / "shop").mkdir()
    for name in ("train", "valid", "test"):
        write(folder / f"{name}.csv", "user,item,time\n1,2,3\n")
    write(folder / "books.csv", "item,title\n2,Emma\n")
    make(monkeypatch, data="shop")
    study = read_study("config/shop.yaml")
    members = {"train": "train.csv", "validation": "valid.csv", "test": "test.csv", "items": "books.csv"}
    assert study.datasets["shop"].sources[0].members == members
    assert study.experiments["recommender"].shared.data.split == "files"


def test_a_column_of_event_types_is_noted(tmp_path):
    file = write(tmp_path / "a.csv", "user,item,time,Event_Type\n1,2,3,click\n")
    source, notes = describe_source(file, RECOMMENDATION, {})
    assert source["columns"] == {"user": "user", "item": "item", "timestamp": "time"}
    assert "The column 'Event_Type' may hold event types: rows of all types are taken" in notes[-1]


def test_a_date_that_is_none_is_left_out_with_a_note(project, monkeypatch, capsys):
    write(project / "a.csv", "user,item,date\n1,2,last May\n")
    make(monkeypatch, data="a.csv")
    note = "The column 'date' is no column of times ('last May') and is left out"
    assert note in capsys.readouterr().out
    assert note in Path("config/shop.yaml").read_text()
    assert read_study("config/shop.yaml").datasets["shop"].sources[0].columns.timestamp is None


@pytest.mark.parametrize(("suffix", "format"), [("pdf", "pdf"), ("txt", "text"), ("jsonl", "text"), ("ndjson", "text")])
def test_a_folder_of_documents(tmp_path, suffix, format):
    for name in "abc":
        write(tmp_path / f"texts/{name}.{suffix}", "{}")
    source, _ = describe_source(tmp_path / "texts", LANGUAGE_MODELING, {})
    assert source == {"path": str(tmp_path / "texts"), "format": format}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "NAME is missing: make new-study NAME="),
        ({"name": "My Shop"}, "NAME: 'My Shop' is made of a-z, 0-9, _ and -"),
        ({"name": "../shop"}, "NAME: '../shop' is made of"),
        ({"name": "x" * 81}, "at most 80 characters long"),
        ({"name": "config"}, "config/config.yaml: exists, and is not overwritten; choose another NAME"),
        ({"name": "laptop"}, "config/config.yaml: is the study 'laptop' already; choose another NAME"),
        ({"kind": ""}, "KIND is missing; kinds: preference, recommendation, language_modeling"),
        ({"kind": "recommender"}, "KIND: there is no kind 'recommender'; did you mean 'recommendation'?"),
        ({"data": "absent.csv"}, "absent.csv: there is no such file or folder; give DATA"),
        ({"columns": ["user=u"]}, "FIELDS: names columns of DATA, which is missing"),
        ({"columns": ["user"]}, "FIELDS: 'user' is not of the form role=column"),
    ],
)
def test_refusals(project, monkeypatch, options, words):
    with pytest.raises(FrugalError) as error:
        make(monkeypatch, **options)
    assert words in str(error.value)
    assert not Path("config/shop.yaml").exists()


def test_nothing_is_overwritten(project, monkeypatch):
    write(project / "config/shop.yaml", "mine")
    with pytest.raises(FrugalError, match=r"config/shop\.yaml: exists, and is not overwritten"):
        make(monkeypatch)
    assert Path("config/shop.yaml").read_text() == "mine"


def test_a_broken_study_beside_it_does_not_matter(project, monkeypatch):
    write(project / "config/broken.yaml", "a: [")
    make(monkeypatch)
    assert read_study("config/shop.yaml").name == "shop"


def test_a_data_set_that_a_table_has(project, monkeypatch):
    write(project / "a.csv", RATINGS)
    with pytest.raises(FrugalError, match=r"datasets\.movielens-1m: config/datasets\.yaml has this name"):
        make(monkeypatch, name="movielens-1m", data="a.csv")
    assert not Path("config/movielens-1m.yaml").exists()


@pytest.mark.parametrize(
    ("files", "kind", "columns", "words"),
    [
        ({"a.csv": ""}, RECOMMENDATION, {}, "is empty"),
        ({}, RECOMMENDATION, {}, "is empty"),
        (
            {"a.csv": "who,what\n1,2\n"},
            RECOMMENDATION,
            {},
            "usual name for the user and the item; its columns are who, what",
        ),
        (
            {"a.csv": "user,what\n1,2\n"},
            RECOMMENDATION,
            {},
            'for the item; its columns are user, what. Name them: FIELDS="',
        ),
        ({"a.csv": "1,2,3.5,99\n"}, RECOMMENDATION, {}, "a.csv, line 1: '1,2,3.5,99' does not name the columns"),
        ({"a.csv": "user\n1\n"}, RECOMMENDATION, {}, "does not name the columns"),
        ({"a.csv": "user,user\n1,2\n"}, RECOMMENDATION, {}, "does not name the columns"),
        ({"a.csv": "a\0b,c\n"}, RECOMMENDATION, {}, "is no text"),
        ({"a.parquet": "PAR1"}, RECOMMENDATION, {}, "a.parquet: cannot be read: "),
        (
            {"a.csv": RATINGS},
            RECOMMENDATION,
            {"usr": "userId"},
            "FIELDS: there is no role 'usr'; did you mean 'user'?",
        ),
        ({"a.csv": RATINGS}, RECOMMENDATION, {"user": "userid"}, "has no column 'userid'; did you mean 'userId'?"),
        ({"a.csv": RATINGS, "b.csv": RATINGS}, RECOMMENDATION, {}, "several files with a column for users"),
        ({"a.csv": FILMS, "b.csv": FILMS}, RECOMMENDATION, {}, "no file with a column for users"),
        ({"a.csv": RATINGS, "b.csv": FILMS.replace(",", ";")}, RECOMMENDATION, {}, "have different separators"),
        ({"a.zip": "PK"}, RECOMMENDATION, {}, "is no table; wanted: a .csv, .tsv or .parquet file"),
        ({"a.csv": RATINGS}, PREFERENCE, {}, "asks a language model about titles"),
        ({"a.csv": RATINGS, "b.csv": "movieId,genre\n1,A\n"}, PREFERENCE, {}, "asks a language model about titles"),
        ({"a.csv": RATINGS}, LANGUAGE_MODELING, {}, "holds no text; wanted: .txt"),
        ({"a.txt": "A", "b.pdf": "B"}, LANGUAGE_MODELING, {}, "holds 1 of the format 'pdf' and 1 of the format 'text'"),
        ({"a.txt": "A"}, LANGUAGE_MODELING, {}, "holds 1 document, and at least 3 are needed"),
        ({"a.txt": "A"}, LANGUAGE_MODELING, {"user": "u"}, "reads texts, which have no columns"),
    ],
)
def test_data_that_is_refused(tmp_path, files, kind, columns, words):
    (tmp_path / "data").mkdir()
    for name, text in files.items():
        write(tmp_path / "data" / name, text)
    with pytest.raises(FrugalError) as error:
        describe_source(tmp_path / "data", kind, columns)
    assert words in str(error.value)


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes("user,größe\n".encode("latin-1"))
    with pytest.raises(FrugalError, match=r"a\.csv: not UTF-8 at byte 7; save it as UTF-8"):
        describe_source(tmp_path / "a.csv", RECOMMENDATION, {})
