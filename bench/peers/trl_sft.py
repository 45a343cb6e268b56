"""TRL's SFTTrainer on texts, as its users write it: the peer in bench.llm, whose settings file it reads."""

import json
import resource
import sys
import time
from importlib import metadata
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.times = []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    clock = Clock()
    trainer = SFTTrainer(
        model=settings["model"],
        processing_class=AutoTokenizer.from_pretrained(settings["model"], trust_remote_code=False),
        train_dataset=load_dataset("json", data_files=settings["texts"], split="train", cache_dir=settings["cache"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **settings["lora"]),
        args=SFTConfig(
            output_dir=settings["cache"],
            per_device_train_batch_size=settings["batch_size"],
            max_length=settings["max_length"],
            max_steps=settings["steps"],
            learning_rate=settings["learning_rate"],
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=settings["seed"],
            data_seed=settings["seed"],
            **settings["options"],
        ),
        callbacks=[clock],
    )
    tokens = []  # of text, without padding, in each step
    compute_loss = trainer.compute_loss

    def counted(model, inputs, *args, **kwargs):
        present = inputs.get("attention_mask")
        tokens.append(int(inputs["input_ids"].numel() if present is None else present.sum()))
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = counted
    trainer.train()
    Path(settings["output"]).write_text(
        json.dumps(
            {
                "seconds": [time - clock.times[0] for time in clock.times],
                "tokens": tokens,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "compute_dtype": "bfloat16" if trainer.args.bf16 else "float32",
                "versions": {name: metadata.version(name) for name in ("torch", "transformers", "trl", "peft")},
            }
        )
    )


if __name__ == "__main__":
    main()
