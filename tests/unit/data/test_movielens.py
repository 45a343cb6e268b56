"""The MovieLens formats, each written by hand with the oddities of the real files."""

import pytest

from frugal.data.interactions.movielens import split_attributes, year_of
from frugal.errors import FrugalError

# Three users, four films, not in the order of their ids; film 12 is rated by nobody.
TRIPLES = [(7, 10, 5, 300), (2, 3, 4, 100), (7, 3, 1, 300), (10, 267, 3, 50)]
# By user and time; the hash of seed 0 orders user 1's two films at 300.
ROWS = [(0, 0, 4.0, 100), (1, 0, 1.0, 300), (1, 1, 5.0, 300), (2, 3, 3.0, 50)]

FLAGS_OF = {
    3: "0001110000000000000",
    10: "0000000010000000100",
    12: "0001100000000000000",
    267: "1" + "0" * 18,
}
TITLES = {
    3: "Toy Story (1995)",
    10: "Nénette et Boni (Nenette) (1996)",
    12: "Land Before Time III, The (1995) (V)",
    267: "unknown",
}
GENRES = {
    3: ["Animation", "Children's", "Comedy"],
    10: ["Drama", "Thriller"],
    12: ["Animation", "Children's"],
    267: [],
}
YEARS = {3: 1995, 10: 1996, 12: 1995, 267: None}


def item_100k(film: int) -> str:
    return "|".join([str(film), TITLES[film], "01-Jan-1995", "", "http://x/", *FLAGS_OF[film]]) + "\n"


U_ITEM = "".join(map(item_100k, TITLES)).encode("latin-1")
U_DATA = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in TRIPLES).encode()
INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + U_DATA
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "3\tToy Story\t1995\tAnimation Children's Comedy\n"
    "10\tNénette et Boni (Nenette)\t1996\tDrama Thriller\n"
    "12\tLand Before Time III, The (1995)\tV\tAnimation Children's\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
).encode()
RATINGS_DAT = "".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in TRIPLES).encode()
MOVIES_DAT = "".join(f"{i}::{TITLES[i]}::{'|'.join(GENRES[i])}\n" for i in TITLES).encode("latin-1")
RATINGS_CSV = b"userId,movieId,rating,timestamp\n" + U_DATA.replace(b"\t", b",")
MOVIES_CSV = (
    "movieId,title,genres\n"
    + "".join(f'{i},"{TITLES[i]}",{"|".join(GENRES[i]) or "(no genres listed)"}\n' for i in TITLES)
).encode()
FILES = {
    "movielens-100k": (U_DATA, U_ITEM),
    "movielens-dat": (RATINGS_DAT, MOVIES_DAT),
    "movielens-csv": (RATINGS_CSV, MOVIES_CSV),
    "recbole": (INTER, ITEM),
}


@pytest.mark.parametrize("form", FILES)
def test_every_format_gives_the_same_rows_and_films(prepared, form: str) -> None:
    result = prepared(form, *FILES[form])
    assert result.rows == ROWS
    assert list(result.items.index) == ["3", "10", "12", "267"]
    assert list(result.items["item"]) == [0, 1, 2, 3]
    assert list(result.items.title) == list(TITLES.values())
    assert [list(values) for values in result.items.attributes] == list(GENRES.values())
    assert [None if year != year else int(year) for year in result.items.year] == list(YEARS.values())


def test_column_types_and_order_are_the_documented_ones(prepared) -> None:
    import pyarrow.parquet as pq

    result = prepared("movielens-100k", U_DATA, U_ITEM)
    interactions = pq.read_schema(result.folder / "interactions.parquet")
    assert [(f.name, str(f.type)) for f in interactions] == [
        ("user", "int32"),
        ("item", "int32"),
        ("rating", "float"),
        ("timestamp", "int64"),
    ]
    items = pq.read_schema(result.folder / "items.parquet")
    assert [(f.name, str(f.type)) for f in items][:3] == [
        ("item", "int32"),
        ("title", "string"),
        ("year", "int16"),
    ]
    assert str(items.field("attributes").type).startswith("list<")
    assert str(items.field("original_id").type) == "string"


def test_all_copies_of_a_data_set_give_the_same_bytes(prepared) -> None:
    files = [prepared(form, *FILES[form]).folder for form in FILES]
    for name in ("interactions.parquet", "items.parquet", "users.parquet"):
        assert len({(folder / name).read_bytes() for folder in files}) == 1


def test_the_summary_is_worked_out_by_hand(prepared) -> None:
    facts = prepared("recbole", INTER, ITEM, rating_range=(1, 5)).facts
    assert (facts["rows_read"], facts["rows_kept"], facts["skipped"]) == (4, 4, {})
    assert (facts["users"], facts["items"], facts["items_rated"]) == (3, 4, 3)
    assert facts["density"] == 4 / 12
    # User 7 has two films at 300, its last moment; the other two users have one film each.
    ties = {"order": "random", "seed": 0, "users_at_end": 1, "at_end": 1 / 3, "elsewhere": None}
    assert facts["ties"] == ties
    assert (facts["first_timestamp"], facts["last_timestamp"]) == (50, 300)
    assert (facts["rating_min"], facts["rating_max"]) == (1.0, 5.0)
    assert facts["duplicates"] == {"policy": "keep_last", "removed": 0}
    assert set(facts["inputs"]) == {"ratings.csv", "items.csv"}


def test_a_copy_of_the_old_files_in_utf8_is_recognised(prepared) -> None:
    for form, ratings, items in [
        ("movielens-100k", U_DATA, U_ITEM),
        ("movielens-dat", RATINGS_DAT, MOVIES_DAT),
    ]:
        result = prepared(form, ratings, items.decode("latin-1").encode("utf-8"))
        assert result.items.title["10"] == TITLES[10]


def test_windows_line_ends_blank_lines_and_a_byte_order_mark_are_harmless(prepared) -> None:
    ratings = b"\xef\xbb\xbf" + RATINGS_CSV.replace(b"\n", b"\r\n") + b"\r\n\r\n"
    assert prepared("movielens-csv", ratings, MOVIES_CSV).rows == ROWS
    assert prepared("movielens-dat", RATINGS_DAT.replace(b"\n", b"\r\n"), MOVIES_DAT).rows == ROWS
    assert prepared("movielens-100k", U_DATA.rstrip(), U_ITEM.rstrip()).rows == ROWS


def test_atomic_files_of_other_data(prepared) -> None:
    """Tokens are text, ratings and titles may be missing."""
    inter = b"user_id:token\titem_id:token\ttimestamp:float\nA1\tB0\t1700000000.0\nA2\tB1\t1700000001.0\n"
    assert prepared("recbole", inter).rows == [(0, 0, 1.0, 1700000000), (1, 1, 1.0, 1700000001)]
    result = prepared("recbole", inter, b"item_id:token\ttitle:token_seq\nB0\tA lamp\nB1\t\n")
    assert list(result.items.title) == ["A lamp", "B1"]


def test_ratings_with_quotes(prepared) -> None:
    """MovieLens-20M as some export it."""
    text = b'"userId","movieId","rating","timestamp"\n1,2,3.5,"2005-04-02 23:53:47"\n'
    assert prepared("movielens-csv", text).rows == [(0, 0, 3.5, 1112486027)]


def test_decimal_timestamps_are_taken_where_they_are_whole(prepared) -> None:
    assert prepared("recbole", INTER.replace(b"\t300\n", b"\t300.0\n"), ITEM).rows == ROWS
    halves = prepared("recbole", INTER.replace(b"\t300\n", b"\t300.5\n"), ITEM)
    assert halves.facts["time"] == {"source": "s", "unit": "ms"}
    assert max(row[3] for row in halves.rows) == 300_500


@pytest.mark.parametrize(
    ("form", "old", "new", "words"),
    [
        (
            "movielens-dat",
            b"2::3::4::100",
            b"2::3::4",
            "line 2: wrong number of fields: 3 instead of 4: '2::3::4'",
        ),
        ("movielens-dat", b"2::3::4::100", b"2::3::x::100", "line 2: rating is not a number: '2::3::x::100'"),
        ("movielens-dat", b"2::3::4::100", b"two::3::4::100", "line 2: user id is not a whole number"),
        ("movielens-dat", b"2::3::4::100", b"2::-3::4::100", "line 2: item id is negative"),
        (
            "movielens-dat",
            b"2::3::4::100",
            b"2::3::9::100",
            r"line 2: rating is out of range: not within \[1.0, 5.0\]",
        ),
        ("movielens-dat", b"2::3::4::100", b"2::3::nan::100", "line 2: rating is missing"),
        ("movielens-dat", b"2::3::4::100", b"2::3::4::soon", "line 2: timestamp is neither a number nor ISO 8601"),
        ("movielens-dat", b"2::3::4::100", b"::3::4::100", "line 2: user id is missing"),
        ("movielens-csv", b"2,3,4,100", b"2,3,4,100,9", "line 3: wrong number of fields: 5 instead of 4"),
        ("movielens-csv", b"2,3,4,100", b"2,NaN,4,100", "line 3: item id is missing"),
        ("movielens-csv", b"2,3,4,100", b"2,3,inf,100", "line 3: rating is not a number"),
        ("movielens-csv", b"2,3,4,100", b"2,3,4,", "line 3: timestamp is missing"),
        ("movielens-csv", b"2,3,4,100", b"2,3,\xff4,100", "line 3: not in the encoding utf-8"),
        (
            "movielens-csv",
            b"movieId",
            b"filmId",
            "line 1: has no column 'movieId' for the item.*its columns are userId",
        ),
        ("movielens-100k", b"2\t3\t4\t100", b"2 3 4 100", "line 2: wrong number of fields: 1 instead of 4"),
        ("recbole", b"item_id:token", b"thing:token", "line 1: has no column 'item_id'"),
    ],
)
def test_a_bad_row_names_file_line_reason_and_text(prepared, form: str, old: bytes, new: bytes, words: str) -> None:
    ratings, items = FILES[form]
    assert old in ratings
    with pytest.raises(FrugalError, match=rf"ratings\.csv, {words}"):
        prepared(form, ratings.replace(old, new), items, rating_range=(1, 5))


def test_skipping_counts_and_shows_what_was_left_out(prepared) -> None:
    ratings = RATINGS_DAT + b"1::3::9::5\n" + b"junk\n" * 6
    result = prepared("movielens-dat", ratings, MOVIES_DAT, rating_range=(1, 5), on_bad_rows="skip")
    assert result.rows == ROWS
    assert (result.facts["rows_read"], result.facts["rows_kept"]) == (11, 4)
    assert result.facts["skipped"] == {"rating is out of range": 1, "wrong number of fields": 6}
    assert [example["line"] for example in result.facts["skipped_examples"]] == [5, 6, 7, 8, 9]
    assert result.facts["skipped_examples"][1] == {
        "file": "ratings.csv",
        "line": 6,
        "text": "junk",
        "reason": "wrong number of fields: 1 instead of 4",
    }


@pytest.mark.parametrize(
    ("form", "items", "words"),
    [
        ("movielens-dat", MOVIES_DAT + b"3::Again (2000)::Drama\n", "line 5: item is described twice"),
        ("movielens-dat", MOVIES_DAT + b"4::No genres (2000)\n", "line 5: wrong number of fields"),
        ("movielens-100k", U_ITEM.replace(b"|1|", b"|2|", 1), "line 1: a genre flag is neither 0 nor 1"),
        ("movielens-csv", b"movieId,title,genres\n", "describes no item"),
        ("movielens-csv", MOVIES_CSV + b"x1,A (2000),Drama\n", "line 6: item id is not a whole number"),
        ("recbole", b"", "the file is empty"),
    ],
)
def test_a_bad_item_file_is_named(prepared, form: str, items: bytes, words: str) -> None:
    with pytest.raises(FrugalError, match=rf"items\.csv(: |, ){words}"):
        prepared(form, FILES[form][0], items)


def test_a_film_without_description_is_kept_and_counted(prepared) -> None:
    result = prepared("movielens-dat", RATINGS_DAT + b"2::99::3::7\n", MOVIES_DAT)
    assert result.facts["items_without_description"] == 1
    assert result.items.title["99"] == "99"


@pytest.mark.parametrize("ratings", [b"", b"\n\n", b"userId,movieId,rating,timestamp\n"])
def test_files_without_rows(prepared, ratings: bytes) -> None:
    with pytest.raises(FrugalError, match=r"ratings\.csv: (the file is empty|holds no interactions)"):
        prepared("movielens-csv", ratings)


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("Toy Story (1995)", 1995),
        ("Land Before Time III (1995) (V)", 1995),
        ("(500) Days of Summer (2009)", 2009),
        ("Roots (1977-1979)", 1977),
        ("Big Bang Theory, The (2007-)", 2007),
        ("Blade Runner 2049", None),
        ("1984 (1984) (remade as 1985 (1985))", 1985),
    ],
)
def test_years(title: str, year: int | None) -> None:
    assert year_of(title) == year


def test_genres() -> None:
    assert split_attributes("Drama| War ", "|") == ("Drama", "War")
    assert (
        split_attributes("(no genres listed)", "|")
        == split_attributes("unknown", " ")
        == split_attributes("", "|")
        == ()
    )
