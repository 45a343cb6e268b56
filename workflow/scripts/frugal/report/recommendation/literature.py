"""Published figures of sequential recommendation, and what metrics with one target a user allow."""

from dataclasses import dataclass
from math import log2


@dataclass(frozen=True)
class Anchor:
    """HR@10 and NDCG@10 of the literature: leave one out, ranked over the whole catalogue."""

    dataset: str
    model: str
    hr: float
    ndcg: float
    form: str = ".4f"


ANCHORS = (
    Anchor("MovieLens-1M", "BERT4Rec", 0.2821, 0.1516),
    Anchor("MovieLens-1M", "SASRec+", 0.3152, 0.1821),
    Anchor("MovieLens-1M", "gSASRec", 0.3003, 0.1726),
    Anchor("MovieLens-1M", "eSASRec", 0.3133, 0.1772),
    Anchor("MovieLens-1M", "HSTU large", 0.3642, 0.2164),
    Anchor("MovieLens-20M", "BERT4Rec", 0.2816, 0.1703),
    Anchor("MovieLens-20M", "SASRec+", 0.2983, 0.1833),
    Anchor("MovieLens-20M", "eSASRec", 0.3289, 0.1966),
    Anchor("MovieLens-100K", "SASRec of RecTools, 40 epochs", 0.144, 0.074, ".3f"),
    Anchor("MovieLens-100K", "BERT4Rec of RecTools, 40 epochs", 0.112, 0.058, ".3f"),
)


def anchors() -> dict[str, list[Anchor]]:
    """Data set -> its anchors."""
    return {name: [a for a in ANCHORS if a.dataset == name] for name in dict.fromkeys(a.dataset for a in ANCHORS)}


def uniform_ratio(k: int = 10) -> float:
    """NDCG@k over HR@k of single targets whose hits are spread evenly over the first k ranks.

    A hit at rank r adds 1 / log2(1 + r) to NDCG (Järvelin and Kekäläinen, 2002) and 1 to HR.
    """
    return sum(1 / log2(1 + rank) for rank in range(1, k + 1)) / k
