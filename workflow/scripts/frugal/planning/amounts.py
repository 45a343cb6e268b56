"""How much there is to train on and to evaluate: counts of prepared blocks, else of public
data sets as they are known, else of prepared data.

Nothing is downloaded or tokenised. Prepared blocks have exact counts of tokens; of a prepared or public data set there
are the characters, which make tokens by `CHARACTERS_A_TOKEN`.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.preference import PreferenceRun
from frugal.config.recommendation import RecommendationRun
from frugal.files import read_json
from frugal.llm.memory.shapes import BYTE_VOCABULARY
from frugal.preference.items import Items, Pair
from frugal.preference.prompts import Prompts, prompt
from frugal.recsys.memory import DataShape

PARTS = ("train", "validation", "test")
#: Characters of English text for each token of a vocabulary of some 50,000 or 128,000: 4.49 with SmolLM2's tokenizer on
#: `climate-chapters`, measured; 4.46 with Llama 3's on WikiText-2 (1,290,590 characters, 141 windows of 2,048 tokens).
CHARACTERS_A_TOKEN = 4.45
#: The same of prompts, which are made of names and years: SmolLM2's tokenizer on the laptop study's pairs, measured.
CHARACTERS_A_PROMPT_TOKEN = 2.6
#: An item as long as MovieLens' on average: a title of 22 characters with its year, and two genres.
TITLE, ATTRIBUTES = "Title of average (1995)", ("Adventure", "Drama")


class Unplannable(Exception):
    """Why a job cannot be planned."""


@dataclass(frozen=True)
class Texts:
    """Numbers of documents and characters of the parts of a data set; one part, "all", where it has no split."""

    documents: Mapping[str, int]
    characters: Mapping[str, int]


#: Public data sets of text. WikiText-2: Merity et al. 2016, table 1 (articles), and the sizes of the raw files; the
#: others as prepared by this project.
PUBLISHED_TEXTS = {
    "wikitext-2-raw": Texts(
        {"train": 600, "validation": 60, "test": 60},
        {"train": 10_918_000, "validation": 1_144_000, "test": 1_290_590},
    ),
    "wikipedia-sample": Texts({"all": 106}, {"all": 2_811_528}),
    "climate-chapters": Texts({"all": 12}, {"all": 117_505}),
}


@dataclass(frozen=True)
class Corpus:
    """Tokens of each part, and the test documents that they belong to."""

    train: float
    validation: float
    test: float
    test_documents: int


def corpus(run: LanguageModelingRun, vocabulary: int, blocks: Path, prepared: Path) -> Corpus:
    """The tokens that a run trains, validates and tests on.

    Args:
        vocabulary: of the base model.
        blocks: the run's blocks.json, which need not exist.
        prepared: the data set's summary.json, likewise.

    Raises:
        Unplannable: the data set is neither prepared nor public.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        counts = read_json(blocks)
        same = counts["settings"] == run.corpus.model_dump(mode="json")
        tokens = [int(counts["tokens"][part]) for part in PARTS]
        if same:  # else of an earlier configuration
            return Corpus(*tokens, int(counts["blocks"]["test"]))
    texts, settings = _texts(run.dataset, prepared), run.corpus
    if "all" in texts.documents:
        shares = {"validation": settings.validation_documents, "test": settings.test_documents}
        shares = {"train": 1 - sum(shares.values()), **shares}
        documents = {part: max(1, round(share * texts.documents["all"])) for part, share in shares.items()}
        characters = {part: share * texts.characters["all"] for part, share in shares.items()}
    else:
        documents, characters = texts.documents, texts.characters
    each = 1 if vocabulary == BYTE_VOCABULARY else CHARACTERS_A_TOKEN
    special = settings.add_bos + settings.add_eos
    tokens = {part: characters[part] / each + special * documents[part] for part in PARTS}
    test = tokens["test"]
    if settings.max_test_tokens:
        test = min(test, settings.max_test_tokens * documents["test"])
    return Corpus(
        min(tokens["train"], settings.max_train_tokens or math.inf),
        min(tokens["validation"], settings.max_validation_tokens),
        test,
        documents["test"],
    )


def _texts(name: str, prepared: Path) -> Texts:
    if name in PUBLISHED_TEXTS:
        return PUBLISHED_TEXTS[name]
    with suppress(OSError, ValueError, KeyError, TypeError):
        summary = read_json(prepared)
        return Texts({"all": int(summary["kept"])}, {"all": int(summary["characters"])})
    raise Unplannable(unknown_size(name))


def unknown_size(name: str) -> str:
    """Why there is no plan for jobs on a data set."""
    return f"the size of {name} is not known before it is prepared: snakemake data"


@dataclass(frozen=True)
class Examples:
    """Mean tokens of a preference example.

    Attributes:
        prompt: of its prompt.
        common: of what the prompts of both orders begin with.
        answer: of its answer.
        loss: of the answer, those that the loss is on.
    """

    prompt: float
    common: float
    answer: float
    loss: float


def example_tokens(run: PreferenceRun, vocabulary: int) -> Examples:
    """Mean tokens of a run's examples, from its templates filled with items of common length.

    Args:
        vocabulary: of the base model.
    """
    items = Items(pd.DataFrame({"item": [0, 1, 2], "title": [TITLE] * 3, "attributes": [ATTRIBUTES] * 3}))
    items.with_attributes = run.items.attribute is not None
    prompts, pair = Prompts(items, run), Pair(0, (0,) * run.pairs.history_length, 1, 2, "easy")
    each = 1 if vocabulary == BYTE_VOCABULARY else CHARACTERS_A_PROMPT_TOKEN
    if run.pairs.format == "next_item":
        given, reasoned, plain = prompts.history(pair.history), TITLE, TITLE
        share = 1.0
    else:
        given, share = prompts.comparison(pair, "A"), run.pairs.reasoning_fraction
        plain = prompts.answer(pair, "A", False)
        reasoned = prompts.answer(pair, "A", True) if share else plain
    common = prompts.history(pair.history)
    asked, common = (
        len(prompt({"instruction": prompts.instruction(), "input": text})) / each for text in (given, common)
    )
    long, short = len(reasoned) / each + 1, 2.0  # its end token; "Option" and a letter, which alone has a loss
    asked = min(asked, run.model.max_length - long)
    return Examples(asked, min(asked, common), share * long + (1 - share) * short, share * long + (1 - share))


@dataclass(frozen=True)
class Sequences:
    """What a recommender reads in an epoch.

    Attributes:
        users: those that are ranked.
        items: of the catalogue.
        positions: items that the model reads.
        rows: windows.
        targets: positions that are predicted.
    """

    users: float
    items: int
    positions: float
    rows: float
    targets: float


def sequences(run: RecommendationRun, data: DataShape) -> Sequences:
    """A run's training histories, cut into windows as `frugal.recsys.batches` does.

    The lengths of histories are taken for exponentially distributed, which decides how many are longer than a window:
    of mean m, exp(-L / m) of them are longer than L and hold (1 + L / m) exp(-L / m) of the positions.
    """
    model, settings = run.model, run.data
    share = settings.fraction * min(1.0, (settings.max_users or data.users) / data.users)
    users, interactions = data.users * share, data.interactions * share
    causal = model.architecture != "bert4rec"
    if settings.split == "leave_one_out":
        positions = interactions - 2 * users
    else:
        positions = interactions * (1 - settings.validation_share - settings.test_share)
    positions = max(positions - causal * users, users)
    length, mean = model.max_length, positions / users
    longer = math.exp(-length / mean)
    rows = users + (1 + length / mean) * longer * positions / length - longer * users / length
    hidden = model.mask_probability if not causal else 1.0
    return Sequences(users, data.items, positions, rows, positions * hidden)


def window_tokens(run: LanguageModelingRun, part: Corpus) -> float:
    """Tokens that the model reads to score the test part: overlapping windows read some of them several times."""
    settings = run.evaluation
    documents = 1 if settings.join_documents else part.test_documents
    each = part.test / documents + settings.add_bos
    if each <= settings.context_length + 1:
        return part.test
    further = math.ceil((each - settings.context_length - 1) / settings.stride)
    return documents * (1 + further) * settings.context_length
