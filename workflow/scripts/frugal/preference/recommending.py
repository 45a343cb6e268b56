"""Recommendations from a trained adapter: candidates ranked by comparing each with each."""

import difflib
from itertools import combinations
from string import Formatter
from typing import Any

from frugal.config.preference import PreferenceRun
from frugal.errors import FrugalError
from frugal.llm.forward_check import check_scoring
from frugal.preference.items import Items, Pair
from frugal.preference.prompts import Prompts, answers, fit_record, prompt
from frugal.preference.scoring import choice_log_probabilities, generate, prompt_logits


class Recommender:
    """A loaded model that ranks items; every comparison is asked in both orders."""

    def __init__(self, model, tokenizer, items: Items, run: PreferenceRun):
        self.model, self.tokenizer, self.run = model, tokenizer, run
        self.titles, self.prompts, self.answers = items.titles, Prompts(items, run), answers(run)
        self.index = {title: item for item, title in enumerate(items.titles)}

    def check(self) -> None:
        """Compare the logits of a question with those of the library's forward pass.

        Raises:
            FrugalError: they differ by more than rounding; call it within `frugal.llm.loading.mixed_precision`.
        """
        question = self._prompt(Pair(0, (0,), 0, len(self.titles) - 1, "asked"), "A")
        check_scoring(self.model, self.run.model, [self.tokenizer(question)["input_ids"]], prompt_logits)

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
        items = list(dict.fromkeys(self.find(title) for title in candidates))
        if not history:
            raise FrugalError(f"no liked {self.run.items.noun}; name at least one")
        if len(items) < 2:
            raise FrugalError("fewer than two different candidates; name at least two")
        pairs = [Pair(0, history, a, b, "asked") for a, b in combinations(items, 2)]
        prompts = [self._prompt(pair, option) for pair in pairs for option in "AB"]
        batch_size = self.run.evaluation.batch_size
        scores = choice_log_probabilities(self.model, self.tokenizer, prompts, self.answers, batch_size, alike=2)
        p_a = scores.softmax(-1)[:, 0].view(-1, 2)
        wins = dict.fromkeys(items, 0.0)
        for pair, (first, second) in zip(pairs, p_a.tolist(), strict=True):
            preferred = (first + 1 - second) / 2
            wins[pair.liked] += preferred / (len(items) - 1)
            wins[pair.other] += (1 - preferred) / (len(items) - 1)
        ranked = sorted(items, key=lambda item: (-wins[item], items.index(item)))
        question = self._prompt(Pair(0, history, ranked[0], ranked[1], "asked"), "A")
        # The answer and the reasoning's first words are given, so that what follows explains the ranking found.
        first_words = next(Formatter().parse(self.run.prompts.reasoning))[0].rstrip()
        beginning = f"{question}{self.answers[0]} {first_words}".rstrip()
        words, _ = generate(self.model, self.tokenizer, [beginning], self.run.evaluation.max_new_tokens, 1)
        options = (f"{letter} is {self.titles[item]}" for letter, item in zip("AB", ranked, strict=False))
        return {
            "ranking": [{"title": self.titles[item], "score": round(wins[item], 4)} for item in ranked],
            "explanation": f"Option {', Option '.join(options)}. {first_words} {words[0]}",
        }

    def find(self, title: str) -> int:
        """The item with exactly this title, capitals aside."""
        if title in self.index:
            return self.index[title]
        lowered = {known.lower(): known for known in self.index}
        if title.lower() in lowered:
            return self.index[lowered[title.lower()]]
        close = [lowered[name] for name in difflib.get_close_matches(title.lower(), lowered, n=3, cutoff=0.5)]
        close = close or [known for known in self.index if title.lower() in known.lower()][:3]
        hint = f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        raise FrugalError(f"no {self.run.items.noun} has the title '{title}'{hint}")

    def _prompt(self, pair: Pair, liked_option: str) -> str:
        """The question about a pair; a history that is too long is shortened as in training."""
        record = {
            "instruction": self.prompts.instruction(),
            "input": self.prompts.comparison(pair, liked_option),
            "output": self.answers[0],
            "answers": self.answers,
            "history_texts": self.prompts.history_texts(pair.history),
        }
        return prompt(fit_record(self.tokenizer, record, self.run.model.max_length))
