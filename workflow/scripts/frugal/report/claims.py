"""The section on the claims ledger: what the original write-ups state, beside what answers it here."""

import pandas as pd

from frugal.claims.ledger import DIFFERS, NOT_COMPARABLE, NOT_MEASURED, REFUTED, REPRODUCED, VERDICTS
from frugal.report.tables import Column, Layout, Table

#: Each verdict in a sentence on one number, and on several.
WORDS = {
    REPRODUCED: ("is reproduced", "are reproduced"),
    DIFFERS: ("differs from what was measured here", "differ from what was measured here"),
    REFUTED: ("is refuted by a computation", "are refuted by a computation"),
    NOT_COMPARABLE: ("is not comparable", "are not comparable"),
    NOT_MEASURED: ("is not measured yet", "are not measured yet"),
}
LAYOUTS = {
    "claims_verdicts": Layout(
        "How many numbers of each original write-up have which verdict.",
        (
            Column("source", "Source"),
            Column("title", "Its title", wraps=0.3),
            *(Column(verdict.replace(" ", "_"), verdict.capitalize(), ",d") for verdict in VERDICTS),
            Column("all", "All", ",d"),
        ),
        needs=(),
        keys=2,
        group="total",
    ),
    "claims": Layout(
        "Every number that the original write-ups state, in our words, beside the answer that was computed or measured "
        "here, in the same unit. Nothing is stated where the write-up left the number blank; there is no answer where "
        "nothing gives one, or only a range. The last but one column has the computation, the result file, the reason, "
        "or the command that measures it.",
        (
            Column("claim", "What is stated", wraps=0.248),
            Column("value", "Stated", "any"),
            Column("unit", "Unit", wraps=0.088),
            Column("answer", "Here", "any"),
            Column("verdict", "Verdict", wraps=0.094),
            Column("by", "By which, or why", wraps=0.185),
            Column("experiment", "Source", wraps=0.09),
        ),
        needs=(),
        group="experiment",
        long=True,
    ),
}


def build(ledger: pd.DataFrame) -> dict[str, Table]:
    """Name -> table, of the columns that `frugal.claims.ledger.make_ledger` gives."""
    frames = {"claims_verdicts": verdicts(ledger), "claims": ledger}
    return {name: Table(name, layout, frames[name]) for name, layout in LAYOUTS.items()}


def verdicts(ledger: pd.DataFrame) -> pd.DataFrame:
    """One row a source, and one for all together: how many claims have each verdict."""
    counts = pd.crosstab(ledger["experiment"], ledger["verdict"])
    counts = counts.reindex(index=ledger["experiment"].unique(), columns=list(VERDICTS), fill_value=0)
    counts.loc["all"] = counts.sum()
    counts["all"] = counts.sum(axis=1)
    counts.columns = [name.replace(" ", "_") for name in counts.columns]
    titles = ledger.drop_duplicates("experiment").set_index("experiment")["source"]
    counts.insert(0, "title", titles.reindex(counts.index))
    return counts.assign(total=counts.index == "all").rename_axis("source").reset_index()


def sentences(ledger: pd.DataFrame) -> list[str]:
    """What the verdicts come to, in words that follow from their counts."""
    counts = ledger["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
    sources, total = ledger["experiment"].nunique(), len(ledger)
    parts = [f"{number:,d} {WORDS[verdict][number != 1]}" for verdict, number in counts.items()]
    found = [f"The {sources} original write-ups state {total:,d} numbers: {', '.join(parts[:-1])}, and {parts[-1]}."]
    judged = int(counts[[REPRODUCED, DIFFERS, REFUTED]].sum())
    if judged:
        share = f"{counts[REPRODUCED] / judged:.0%}".replace("%", " %")
        found.append(f"Of the {judged:,d} that could be judged, {share} are reproduced.")
    else:
        found.append("Not one of them could be judged.")
    return found
