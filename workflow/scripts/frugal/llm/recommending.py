"""Recommendations from a trained adapter: candidates ranked by comparing each with each."""

import difflib
from itertools import combinations
from typing import Any

from frugal.config.movie_preference import MoviePreferenceRun
from frugal.data.preference import CONTRASTIVE_INSTRUCTION, Films, Pair, contrastive_input
from frugal.errors import FrugalError
from frugal.llm.prompts import prompt
from frugal.llm.scoring import choice_log_probabilities, generate


class Recommender:
    """A loaded model that ranks films; every comparison is asked in both orders."""

    def __init__(self, model, tokenizer, catalogue: Films, run: MoviePreferenceRun):
        self.model, self.tokenizer, self.catalogue, self.run = model, tokenizer, catalogue, run
        self.index = {title: item for item, title in enumerate(catalogue.titles)}

    def recommend(self, liked: list[str], candidates: list[str]) -> dict[str, Any]:
        """Rank ``candidates`` for a user who liked ``liked``.

        Returns:
            `ranking`: title and score of each candidate, best first; the score is the mean
            probability of being preferred to another candidate, over both orders.
            `explanation`: the model's own words on the best against the second.

        Raises:
            FrugalError: an unknown title (with the nearest known ones), no history, or fewer than
                two candidates.
        """
        history = tuple(self.find(title) for title in liked)
        films = list(dict.fromkeys(self.find(title) for title in candidates))
        if not history:
            raise FrugalError("no liked film; name at least one")
        if len(films) < 2:
            raise FrugalError("fewer than two different candidates; name at least two")
        pairs = [Pair(0, history, a, b, "asked") for a, b in combinations(films, 2)]
        prompts = [self._prompt(pair, option) for pair in pairs for option in "AB"]
        scores = choice_log_probabilities(self.model, self.tokenizer, prompts, self.run.evaluation.batch_size)
        p_a = scores.softmax(-1)[:, 0].view(-1, 2)
        wins = dict.fromkeys(films, 0.0)
        for pair, (first, second) in zip(pairs, p_a.tolist(), strict=True):
            preferred = (first + 1 - second) / 2
            wins[pair.liked] += preferred / (len(films) - 1)
            wins[pair.other] += (1 - preferred) / (len(films) - 1)
        ranked = sorted(films, key=lambda film: (-wins[film], films.index(film)))
        question = self._prompt(Pair(0, history, ranked[0], ranked[1], "asked"), "A")
        # The answer is given, so that the words explain the ranking that was found.
        words, _ = generate(
            self.model,
            self.tokenizer,
            [f"{question}Option A. The user"],
            self.run.evaluation.max_new_tokens,
            1,
        )
        return {
            "ranking": [{"title": self.catalogue.titles[film], "score": round(wins[film], 4)} for film in ranked],
            "explanation": f"Option A is {self.catalogue.titles[ranked[0]]}, Option B is "
            f"{self.catalogue.titles[ranked[1]]}. The user {words[0]}",
        }

    def find(self, title: str) -> int:
        """The film with exactly this title, capitals aside."""
        if title in self.index:
            return self.index[title]
        lowered = {known.lower(): known for known in self.index}
        if title.lower() in lowered:
            return self.index[lowered[title.lower()]]
        close = [lowered[name] for name in difflib.get_close_matches(title.lower(), lowered, n=3, cutoff=0.5)]
        close = close or [known for known in self.index if title.lower() in known.lower()][:3]
        hint = f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        raise FrugalError(f"no film has the title '{title}'{hint}")

    def _prompt(self, pair: Pair, liked_option: str) -> str:
        text = contrastive_input(self.catalogue, pair, liked_option, self.run.pairs.history_genres)
        return prompt({"instruction": CONTRASTIVE_INSTRUCTION, "input": text})
