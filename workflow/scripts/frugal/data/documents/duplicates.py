"""Near-duplicates: documents that share most of their sequences of words."""

import re

from datasketch import MinHash, MinHashLSH

SHINGLE = 5
PERMUTATIONS = 128
# How often a pair that is just similar enough may fail to become a candidate.
MISSED = 0.001


class NearDuplicates:
    """Finds, for each document that passes, an earlier one like it.

    Compared are sets of sequences of five words by their Jaccard similarity, estimated from MinHash signatures
    (Broder 1997, On the resemblance and containment of documents); candidates come from locality-sensitive
    hashing. Of each document a signature of 128 numbers is kept, and not its text. The hashes have a fixed seed, so
    that every run decides the same.

    Args:
        similarity: from here on, up to 1, two documents are near-duplicates. The estimate has a standard error of
            at most ``sqrt(s (1 - s) / 128)``, 0.035 at 0.8.
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        rows = rows_in_band(similarity)
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=(PERMUTATIONS // rows, rows))
        self._names: list[str] = []
        self._signatures: list[MinHash] = []

    def find_or_add(self, name: str, text: str) -> str | None:
        """The name of the most similar earlier document, if it is similar enough; else take note of this one."""
        signature = MinHash(PERMUTATIONS)
        signature.update_batch([shingle.encode() for shingle in shingles(text)])
        twins = [(signature.jaccard(self._signatures[twin]), -twin) for twin in self._index.query(signature)]
        likeness, earliest = max(twins, default=(0.0, 0))
        if likeness >= self.similarity:
            return self._names[-earliest]
        self._index.insert(len(self._names), signature)
        self._names.append(name)
        self._signatures.append(signature)
        return None


def shingles(text: str) -> set[str]:
    """The distinct sequences of five words, without regard to case and punctuation; of fewer words, all of them."""
    words = re.findall(r"\w+", text.lower())
    last = max(len(words) - SHINGLE, 0)
    return {" ".join(words[i : i + SHINGLE]) for i in range(last + 1)}


def rows_in_band(similarity: float) -> int:
    """The longest band of a signature that finds pairs of this similarity all but surely.

    With b bands of r rows a pair becomes a candidate with probability ``1 - (1 - s^r)^b`` (Leskovec, Rajaraman and
    Ullman, Mining of Massive Datasets, section 3.4.2). Longer bands give fewer candidates in vain.
    """
    rows = range(1, PERMUTATIONS // 4 + 1)
    return max((r for r in rows if (1 - similarity**r) ** (PERMUTATIONS // r) <= MISSED), default=1)
