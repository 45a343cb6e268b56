"""Recommendations of a finished run: for each history the top items of the catalogue, under the data's own ids."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from frugal.config.recommendation import RecommendationRun
from frugal.errors import FrugalError
from frugal.recsys.adapters import load_trained
from frugal.recsys.catalogue import CATALOGUE, Catalogue, read_catalogue
from frugal.recsys.finished_run import keeps_history, model_folder
from frugal.recsys.known_users import KnownUsers
from frugal.recsys.modeling import SSEPT, Recommender
from frugal.recsys.requests import Request
from frugal.run.hardware import choose_any_device

#: Scores that are held at once: 128 MB, and some copies.
SCORES = 2**25
#: Ids that a summary names as examples.
EXAMPLES = 3
EMPTY, UNSEEN, UNKNOWN = "empty", "unseen", "unknown"
#: Why a request has no recommendations.
REASONS = {
    EMPTY: "the history is empty",
    UNSEEN: "no item of the history is in the model's catalogue",
    UNKNOWN: "the user is not in the training data, and no history was given",
    "none left": "no item is left to recommend",
}


@dataclass(frozen=True)
class Answer:
    """What is recommended to one user.

    Attributes:
        request: what was asked.
        items: the ids, best first.
        scores: theirs, logits: comparable within one answer.
        reason: a key of `REASONS` where there are no items.
        unseen: ids of the history that the model has no embedding of; they were not read.
        older: the number of items of the history that are older than the longest sequence the model reads.
        excluded: the number of items that were not ranked because they are in the history.
        mean_user: SSE-PT has no embedding of the user, and the mean of all was read.
    """

    request: Request
    items: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    reason: str | None = None
    unseen: list[str] = field(default_factory=list)
    older: int = 0
    excluded: int = 0
    mean_user: bool = False


def load_finished(folder: Path, run: RecommendationRun, seed: int | None = None) -> tuple[Recommender, Catalogue]:
    """The model of one seed of a run, ready to score, and whose rows it has.

    Args:
        folder: results/<study>/<experiment>/<variant>.
        seed: None: the run's first.

    Raises:
        FrugalError: the run has no such seed or is not finished, or its model cannot be read.
    """
    path, backbone = model_folder(folder, run, run.seeds[0] if seed is None else seed)
    device = choose_any_device(min(1, run.training.gpus))  # before PEFT, which would load to the first GPU
    model, catalogue = load_trained(path, run.adapter, backbone), read_catalogue(path)
    if catalogue is None or len(catalogue.items) != model.config.item_count:
        raise FrugalError(
            f"{path}: has no {CATALOGUE} with the ids of its {model.config.item_count} items; train the run again"
        )
    return model.to(device), catalogue


class TopItems:
    """Ranks the catalogue for requests. The model of SSE-PT is changed: it gets an embedding of the mean user.

    Args:
        model, catalogue: as `load_finished` returns them.
        users: of the prepared data set.
        keep_history: whether items of the history may be recommended.
        allowed: ids; None: all items.
        denied: ids.

    Raises:
        FrugalError: no item may be recommended.
    """

    def __init__(
        self,
        model: Recommender,
        catalogue: Catalogue,
        users: KnownUsers,
        keep_history: bool,
        allowed: Sequence[str] | None = None,
        denied: Sequence[str] = (),
    ):
        self.model, self.ids, self.users, self.keep_history = model, catalogue.items, users, keep_history
        self.numbers = {item: number for number, item in enumerate(self.ids)}
        #: Listed ids that the catalogue lacks.
        self.not_listed = [item for item in (*(allowed or ()), *denied) if item not in self.numbers]
        #: bool, (items,): those that are never recommended.
        self.hidden = np.full(len(self.ids), allowed is not None)
        self.hidden[[self.numbers[item] for item in allowed or () if item in self.numbers]] = False
        self.hidden[[self.numbers[item] for item in denied if item in self.numbers]] = True
        if self.hidden.all():
            raise FrugalError("the lists of allowed and denied items leave nothing to recommend; look at their ids")
        self.has_users = isinstance(model, SSEPT)
        if self.has_users:
            self.trained = users.trained(model.config.user_count)
            self.mean_user = add_mean_user(model, self.trained)
        self.catalogue, self.checked = catalogue, False
        longest = model.config.max_position_embeddings
        #: The longest history that the model reads; BERT4Rec's mask takes a place.
        self.longest = longest if model.config.causal else longest - 1

    @classmethod
    def of_run(
        cls,
        folder: Path,
        run: RecommendationRun,
        data: Path = Path("data"),
        seed: int | None = None,
        keep_history: bool | None = None,
        allowed: Sequence[str] | None = None,
        denied: Sequence[str] = (),
    ) -> "TopItems":
        """Of a finished run.

        Args:
            folder: results/<study>/<experiment>/<variant>.
            run: its settings, see `frugal.recsys.finished_run.load_settings`.
            data: the folder of prepared data.
            seed: see `load_finished`.
            keep_history: None: as the run was evaluated.
        """
        model, catalogue = load_finished(folder, run, seed)
        keep = keeps_history(folder, run) if keep_history is None else keep_history
        return cls(model, catalogue, KnownUsers(data / "prepared" / run.dataset, run.data), keep, allowed, denied)

    def recommend(self, requests: Iterable[Request], k: int, batch_size: int = 256) -> Iterator[Answer]:
        """The top ``k`` items of each request, in the order of the requests; a batch of them is held at a time.

        Items of equal score stand in the order of the catalogue.

        Raises:
            FrugalError: the scores are not numbers, or the prepared data, where it is needed, is missing or has other
                users than SSE-PT's embeddings.
        """
        requests = iter(requests)
        batch_size = max(1, min(batch_size, SCORES // len(self.ids)))
        while batch := list(islice(requests, batch_size)):
            yield from self._batch(batch, k)

    def _batch(self, requests: list[Request], k: int) -> Iterator[Answer]:
        histories, unseen, reasons = zip(*map(self._history, requests), strict=True)
        rows = [row for row, reason in enumerate(reasons) if reason is None]
        users, tops = np.zeros(len(requests), np.int64), {}
        if self.has_users:
            users[:] = [self._user(request.user) for request in requests]
        if rows:
            scores = self.model.score(users[rows], [histories[row] for row in rows]).cpu().numpy()
            if np.isnan(scores).any():
                raise FrugalError("scores contain NaN: the training has diverged; lower its learning rate")
            scores[:, self.hidden] = -np.inf
            for row, own in zip(rows, scores, strict=True):
                if not self.keep_history:
                    own[histories[row]] = -np.inf
                tops[row] = top(own, k), own
        for row, request in enumerate(requests):
            if row not in tops:
                yield Answer(request, reason=reasons[row], unseen=unseen[row])
                continue
            items, own = tops[row]
            yield Answer(
                request,
                [self.ids[item] for item in items],
                [float(own[item]) for item in items],
                reason=None if len(items) else "none left",
                unseen=unseen[row],
                older=max(0, len(histories[row]) - self.longest),
                excluded=0 if self.keep_history else int((~self.hidden[np.unique(histories[row])]).sum()),
                mean_user=self.has_users and users[row] == self.mean_user,
            )

    def _history(self, request: Request) -> tuple[np.ndarray, list[str], str | None]:
        """The numbers of the items that the model knows, the ids of the others, and why nothing can be recommended."""
        history = self.users.history(request.user) if request.history is None else request.history
        known = [self.numbers[item] for item in history or () if item in self.numbers]
        unseen = [item for item in history or () if item not in self.numbers]
        reason = None if known else UNKNOWN if history is None else UNSEEN if unseen else EMPTY
        return np.array(known, np.int64), unseen, reason

    def _user(self, user: str | None) -> int:
        """The row of a user's embedding."""
        if user is None:
            return self.mean_user
        if not self.checked:
            self.users.check(self.catalogue)
            self.checked = True
        number = self.users.numbers.get(user, -1)
        return number if 0 <= number < len(self.trained) and self.trained[number] else self.mean_user


def add_mean_user(model: SSEPT, trained: np.ndarray) -> int:
    """Give SSE-PT an embedding of a user that it does not know: the mean of those that it has learnt; its number.

    Args:
        trained: bool, (user_count,): whose embeddings were learnt.
    """
    weight = model.user_embedding.weight.detach()
    mean = weight[torch.from_numpy(trained).to(weight.device)].mean(dim=0, keepdim=True)
    model.user_embedding = nn.Embedding.from_pretrained(torch.cat((weight, mean)))
    return len(weight)


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """int64, (at most k,): the places of the largest of ``scores``, (items,), without those of -inf; ties by place."""
    k = min(k, len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    places = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return places[np.argsort(-scores[places], kind="stable")][:k]


@torch.inference_mode()
def neighbours(
    model: Recommender, catalogue: Catalogue, items: Sequence[str], k: int, batch_size: int = 256
) -> Iterator[tuple[str, list[str], list[float]]]:
    """For each of ``items`` the ``k`` items whose embeddings, those that scores are computed with, are nearest.

    Yields:
        The item, its neighbours, nearest first, and their cosines, from -1 to 1.

    Raises:
        FrugalError: an item is not in the catalogue.
    """
    numbers = {item: number for number, item in enumerate(catalogue.items)}
    if unknown := [item for item in items if item not in numbers]:
        raise FrugalError(f"not in the model's catalogue: {examples(unknown)}; give ids as the data's files have them")
    _, weights = model.output_weights(torch.zeros(1, model.config.width, device=model.device))
    weights = F.normalize(weights.float(), dim=-1)
    batch_size = max(1, min(batch_size, SCORES // len(catalogue.items)))
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        rows = torch.tensor([numbers[item] for item in batch], device=weights.device)
        cosines = (weights[rows] @ weights.T).clamp(-1, 1).cpu().numpy()
        for item, own in zip(batch, cosines, strict=True):
            own[numbers[item]] = -np.inf
            nearest = top(own, k)
            yield item, [catalogue.items[other] for other in nearest], [float(own[other]) for other in nearest]


class Counts:
    """Counts what is left out of answers that pass."""

    def __init__(self) -> None:
        self.requests = self.unseen = self.with_unseen = self.mean_users = 0
        self.reasons: Counter[str] = Counter()
        self.unseen_examples: dict[str, None] = {}
        self.user_examples: dict[str, None] = {}

    def counted(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """The same answers."""
        for answer in answers:
            self.requests += 1
            self.reasons[answer.reason] += answer.reason is not None
            self.unseen += len(answer.unseen)
            self.with_unseen += bool(answer.unseen)
            self.mean_users += answer.mean_user
            _remember(self.unseen_examples, answer.unseen)
            if (answer.mean_user or answer.reason == UNKNOWN) and answer.request.user is not None:
                _remember(self.user_examples, [answer.request.user])
            yield answer

    def describe(self) -> str:
        """The counts as lines, with examples."""
        without = self.reasons.total()
        lines = [f"recommendations for {self.requests - without:,} of {self.requests:,} records"]
        lines += [f"none for {count:,}: {REASONS[reason]}" for reason, count in self.reasons.items() if count]
        if self.unseen:
            lines.append(
                f"unseen items: {self.unseen:,} in {self.with_unseen:,} histories are not in the model's catalogue and "
                f"were not read: {examples(list(self.unseen_examples))}"
            )
        if self.mean_users:
            lines.append(
                f"users without an embedding: {self.mean_users:,}, scored with the mean of all users' embeddings"
            )
        if self.user_examples:
            lines.append(f"unknown users: {examples(list(self.user_examples))}")
        return "\n".join(lines)


def _remember(found: dict[str, None], ids: Sequence[str]) -> None:
    for one in ids:
        if len(found) > EXAMPLES:
            return
        found[one] = None


def examples(ids: Sequence[str]) -> str:
    """The first ids, and whether there are more."""
    return ", ".join(map(repr, ids[:EXAMPLES])) + (", ..." if len(ids) > EXAMPLES else "")
