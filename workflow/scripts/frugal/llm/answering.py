"""Prompts that a language model continues, one by one: the same draws whatever the order, with or without adapter."""

import hashlib
import time
from typing import Any

import torch

from frugal.config.language_modeling import PromptSettings
from frugal.errors import FrugalError


@torch.inference_mode()
def continue_prompts(model, tokenizer, settings: PromptSettings, seed: int) -> list[dict[str, Any]]:
    """Sample a continuation of each of the settings' prompts.

    A prompt is continued as plain text, also where the tokenizer has a chat template: the experiments train on
    plain text. The random numbers depend on ``seed`` and the prompt alone, so that two models differ by what
    they believe and not by the draw.

    Returns:
        One row a prompt: prompt, answer (the continuation alone), tokens (drawn, an end token included), seconds.

    Raises:
        FrugalError: a prompt has no token.
    """
    if settings.temperature > 0:
        # The top_k of transformers' defaults would cut the distribution a second time.
        sampling = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    else:
        sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    rows = []
    for number, prompt in enumerate(settings.texts, start=1):
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        length = inputs["input_ids"].shape[1]
        if length == 0:
            raise FrugalError(f"prompts.texts: prompt {number} is empty; write a beginning, or remove it")
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()[:4], "big"))
        start = time.perf_counter()
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **sampling,
        )[0, length:]
        rows.append(
            {
                "prompt": prompt,
                "answer": tokenizer.decode(output, skip_special_tokens=True).strip(),
                "tokens": len(output),
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
    return rows
