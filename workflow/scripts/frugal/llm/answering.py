"""Prompts that a language model continues: the same draws whatever the order, with or without adapter."""

import hashlib
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from frugal.config.language_modeling import PromptSettings
from frugal.errors import FrugalError


class GumbelNoise(LogitsProcessor):
    """Makes the most likely token a draw from the distribution, with random numbers of each prompt's own.

    The largest of logits with Gumbel noise is distributed as their softmax (Maddison et al. 2014, A* Sampling,
    arXiv:1411.0030, section 2.1).
    """

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (prompts, vocabulary), those of excluded tokens -inf, with noise."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in self.generators])
        # Kept away from 0 and 1, where the noise would be infinite.
        noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        return scores + noise.to(scores.device)


@torch.inference_mode()
def continue_prompts(model, tokenizer, settings: PromptSettings, seed: int) -> list[dict[str, Any]]:
    """Sample a continuation of each of the settings' prompts, all at once.

    A prompt is continued as plain text, also where the tokenizer has a chat template: the experiments train on
    plain text. The random numbers depend on ``seed`` and the prompt alone, so that two models differ by what
    they believe and not by the draw.

    Returns:
        One row a prompt: prompt, answer (the continuation alone), tokens (drawn, an end token included).

    Raises:
        FrugalError: a prompt has no token.
    """
    prompts = settings.texts
    if not prompts:
        return []
    tokenized = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for number, tokens in enumerate(tokenized, start=1):
        if not tokens:
            raise FrugalError(f"prompts.texts: prompt {number} is empty; write a beginning, or remove it")
    # Filled up with their own first token, which no penalty for repetition makes rarer than it is already.
    width = max(map(len, tokenized))
    missing = [width - len(tokens) for tokens in tokenized]
    input_ids = torch.tensor([[tokens[0]] * count + tokens for tokens, count in zip(tokenized, missing, strict=True)])
    attention_mask = (torch.arange(width) >= torch.tensor(missing)[:, None]).long()
    processors = LogitsProcessorList()
    if settings.temperature > 0:
        seeds = [hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()[:4] for prompt in prompts]
        processors += [TemperatureLogitsWarper(settings.temperature), TopPLogitsWarper(settings.top_p)]
        processors.append(GumbelNoise([int.from_bytes(digest, "big") for digest in seeds]))
    outputs = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        max_new_tokens=settings.max_new_tokens,
        repetition_penalty=settings.repetition_penalty,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        logits_processor=processors,
        # The draw is in the noise; the options of sampling, which some models' own settings name, stay out of it.
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
    )[:, width:]
    rows = []
    for prompt, drawn in zip(prompts, outputs.tolist(), strict=True):
        # Behind its end a row is filled up until the longest one ends.
        end = drawn.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in drawn else len(drawn)
        answer = tokenizer.decode(drawn[:end], skip_special_tokens=True).strip()
        rows.append({"prompt": prompt, "answer": answer, "tokens": end})
    return rows
