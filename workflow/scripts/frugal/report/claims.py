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
COLUMNS = (
    Column("claim", "What is stated", wraps=0.248),
    Column("value", "Stated", "any"),
    Column("unit", "Unit", wraps=0.088),
    Column("answer", "Here", "any"),
    Column("verdict", "Verdict", wraps=0.094),
    Column("by", "By which, or why", wraps=0.185),
    Column("original", "Source", wraps=0.09),
)
LAYOUTS = {
    "claims_verdicts": Layout(
        "How many findings of each original write-up have which verdict.",
        (
            Column("original", "Source"),
            Column("title", "Its title", wraps=0.3),
            *(Column(verdict.replace(" ", "_"), verdict.capitalize(), ",d") for verdict in VERDICTS),
            Column("all", "All", ",d"),
        ),
        needs=(),
        keys=2,
        group="total",
    ),
    "claims": Layout(
        "Every finding that the original write-ups state, in our words, beside the answer that was computed or "
        "measured here, in the same unit. Nothing is stated where the write-up left the number blank; there is no "
        "answer where nothing gives one, or only a range. The last but one column has the computation, the result "
        "file, the reason, or the command that measures it.",
        COLUMNS,
        needs=(),
        group="original",
        long=True,
    ),
    "claims_settings": Layout(
        "The other numbers that they state: settings, prices, advice, and counts of data sets.",
        COLUMNS,
        needs=(),
        group="original",
        long=True,
    ),
}


def build(ledger: pd.DataFrame) -> dict[str, Table]:
    """Name -> table, of the columns that `frugal.claims.ledger.make_ledger` gives."""
    findings = ledger["finding"]
    frames = {
        "claims_verdicts": verdicts(ledger[findings]),
        "claims": ledger[findings],
        "claims_settings": ledger[~findings],
    }
    return {name: Table(name, layout, frames[name].reset_index(drop=True)) for name, layout in LAYOUTS.items()}


def verdicts(findings: pd.DataFrame) -> pd.DataFrame:
    """One row a source, and one for all together: how many claims have each verdict."""
    counts = pd.crosstab(findings["original"], findings["verdict"])
    counts = counts.reindex(index=findings["original"].unique(), columns=list(VERDICTS), fill_value=0)
    counts.loc["all"] = counts.sum()
    counts["all"] = counts.sum(axis=1)
    counts.columns = [name.replace(" ", "_") for name in counts.columns]
    titles = findings.drop_duplicates("original").set_index("original")["source"]
    counts.insert(0, "title", titles.reindex(counts.index))
    return counts.assign(total=counts.index == "all").rename_axis("original").reset_index()


def sentences(ledger: pd.DataFrame) -> list[str]:
    """What the verdicts come to, in words that follow from their counts."""
    findings, sources = ledger[ledger["finding"]], ledger["original"].nunique()
    counts = findings["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
    parts = [f"{number:,d} {WORDS[verdict][number != 1]}" for verdict, number in counts.items()]
    found = [
        f"The {sources} original write-ups state {len(findings):,d} findings: {', '.join(parts[:-1])}, and {parts[-1]}."
    ]
    judged = int(counts[[REPRODUCED, DIFFERS, REFUTED]].sum())
    if judged:
        share = f"{counts[REPRODUCED] / judged:.0%}".replace("%", " %")
        found.append(f"Of the {judged:,d} that could be judged, {share} are reproduced.")
    else:
        found.append("Not one of them could be judged.")
    return found
