"""Near-duplicates: the estimate beside similarities worked out by hand, and the decisions that follow."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.data.documents.duplicates import NearDuplicates, rows_in_band, shingles

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"


def sentence(seed: int, words: int = 200) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefgh", k=6)) for _ in range(words)]


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_shingles_by_hand() -> None:
    assert shingles("One two, three. FOUR five six") == {"one two three four five", "two three four five six"}
    assert shingles("a b") == {"a b"}
    assert shingles("a b c d e a b c d e a") == {"a b c d e", "b c d e a", "c d e a b", "d e a b c", "e a b c d"}


def test_rows_in_a_band_by_hand() -> None:
    # 0.8: 0.8^5 = 0.328 and 25 bands miss 0.672^25 = 0.00005; 0.8^6 = 0.262 and 21 bands miss 0.738^21 = 0.0017.
    assert rows_in_band(0.8) == 5
    assert rows_in_band(1.0) == 32
    assert rows_in_band(0.01) == 1


def test_the_decision_follows_the_exact_similarity() -> None:
    # 200 words have 196 shingles. Changing the first k words loses k shingles of each: J = (196 - k) / (196 + k).
    words = sentence(1)
    for changed, likely in [(0, True), (10, True), (50, False), (100, False)]:
        other = [*sentence(2)[:changed], *words[changed:]]
        exact = (196 - changed) / (196 + changed)
        assert jaccard(" ".join(words), " ".join(other)) == pytest.approx(exact)
        # 0: 1.00, 10: 0.90, 50: 0.59, 100: 0.32; the threshold 0.75 is four standard errors or more from each.
        seen = NearDuplicates(0.75)
        assert seen.find_or_add("first", " ".join(words)) is None
        assert (seen.find_or_add("second", " ".join(other)) == "first") is likely


def test_the_most_similar_earlier_document_is_named_and_of_equals_the_first() -> None:
    words = sentence(3)
    seen = NearDuplicates(0.3)
    assert seen.find_or_add("far", " ".join(words[:100])) is None
    # J = 96 / 196 = 0.49 with the half, 1 with itself.
    assert seen.find_or_add("whole", " ".join(words)) == "far"
    seen = NearDuplicates(0.9)
    for name in ("far", "whole"):
        assert seen.find_or_add(name, " ".join(words[: 100 if name == "far" else 200])) is None
    assert seen.find_or_add("again", " ".join(words)) == "whole"
    # A duplicate is not remembered: the first is named once more.
    assert seen.find_or_add("once more", " ".join(words)) == "whole"


@settings(max_examples=25)
@given(st.text(min_size=1), st.floats(0.05, 1))
def test_a_copy_is_always_found(text: str, similarity: float) -> None:
    seen = NearDuplicates(similarity)
    assert seen.find_or_add("one", text) is None
    assert seen.find_or_add("two", text) == "one"


def test_many_different_documents_are_all_kept() -> None:
    seen = NearDuplicates(0.8)
    assert all(seen.find_or_add(str(seed), " ".join(sentence(seed))) is None for seed in range(200))


def test_the_decision_does_not_depend_on_the_process() -> None:
    # Near the threshold, where a hash that differs from run to run would decide differently.
    code = (
        "from frugal.data.documents.duplicates import NearDuplicates\n"
        "words = [str(i) for i in range(204)]\n"
        "for k in range(12, 34):\n"
        "    seen = NearDuplicates(0.8)\n"
        "    seen.find_or_add('a', ' '.join(words))\n"
        "    print(seen.find_or_add('b', ' '.join(words[k:])), end=' ')\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(SCRIPTS), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert {"a", "None"} == set(runs[0].split())
