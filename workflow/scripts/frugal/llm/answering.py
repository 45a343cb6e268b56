"""Continue prompts with a language model, greedily or by draws that depend on neither their order nor the adapter."""

import hashlib
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from frugal.config.language_modeling import PromptSettings
from frugal.errors import FrugalError
from frugal.llm.loading import without_adapter
from frugal.llm.positions import positions


class GumbelNoise(LogitsProcessor):
    """Makes the most likely token a draw from the distribution, with separate random numbers for each prompt.

    The argmax of logits with Gumbel noise is distributed as their softmax (Maddison et al. 2014, A* Sampling,
    arXiv:1411.0030, section 2.1).
    """

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores with noise, (prompts, vocabulary); excluded tokens stay at -inf."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in self.generators])
        # Away from 0 and 1, where the noise would be infinite.
        noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        return scores + noise.to(scores.device)


def greedy_tokens(
    model,
    tokenizer,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    processors: LogitsProcessorList | None = None,
) -> torch.Tensor:
    """The likeliest next token, again and again; the study's settings alone decide.

    Args:
        input_ids, attention_mask: int64, (prompts, length), padded on the left.
        processors: change the logits before the likeliest token is taken.

    Returns:
        int64, (prompts, at most ``max_new_tokens``): an end token, and padding behind it, included.

    Raises:
        FrugalError: the prompt and its answer need more positions than the model has.
    """
    causal = without_adapter(model)
    length, limit = input_ids.shape[1], positions(causal.config.to_dict())
    if limit and length + max_new_tokens > limit:
        raise FrugalError(
            f"a prompt of {length} tokens and max_new_tokens {max_new_tokens} need more than the {limit} positions of "
            "the model (max_position_embeddings); shorten the prompt, or lower max_new_tokens"
        )
    # The library fills up what it is not given from the model's generation_config.json: penalties, beams, bans.
    causal.generation_config = GenerationConfig()
    return model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=repetition_penalty,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        logits_processor=processors,
    )[:, length:]


@torch.inference_mode()
def continue_prompts(model, tokenizer, settings: PromptSettings, seed: int) -> list[dict[str, Any]]:
    """Sample a continuation of each of the settings' prompts, all at once.

    A prompt is continued as plain text, even if the tokenizer has a chat template: the experiments train on plain
    text. Random numbers depend on ``seed`` and the prompt only, so that two models get the same draws.

    Returns:
        One row a prompt: prompt, answer (the continuation alone), tokens (drawn, an end token included).

    Raises:
        FrugalError: a prompt has no token, or the model has no positions for it and its continuation.
    """
    prompts = settings.texts
    if not prompts:
        return []
    tokenized = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for number, tokens in enumerate(tokenized, start=1):
        if not tokens:
            raise FrugalError(f"prompts.texts: prompt {number} is empty; write a beginning, or remove it")
    # Padded with their own first token, so that the repetition penalty affects no further token.
    width = max(map(len, tokenized))
    missing = [width - len(tokens) for tokens in tokenized]
    input_ids = torch.tensor([[tokens[0]] * count + tokens for tokens, count in zip(tokenized, missing, strict=True)])
    attention_mask = (torch.arange(width) >= torch.tensor(missing)[:, None]).long()
    processors = LogitsProcessorList()
    if settings.temperature > 0:
        seeds = [hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()[:4] for prompt in prompts]
        processors += [TemperatureLogitsWarper(settings.temperature), TopPLogitsWarper(settings.top_p)]
        processors.append(GumbelNoise([int.from_bytes(digest, "big") for digest in seeds]))
    outputs = greedy_tokens(
        model, tokenizer, input_ids, attention_mask, settings.max_new_tokens, settings.repetition_penalty, processors
    )
    rows = []
    for prompt, drawn in zip(prompts, outputs.tolist(), strict=True):
        # After its end token a row is padded to the longest one.
        end = drawn.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in drawn else len(drawn)
        answer = tokenizer.decode(drawn[:end], skip_special_tokens=True).strip()
        rows.append({"prompt": prompt, "answer": answer, "tokens": end})
    return rows
