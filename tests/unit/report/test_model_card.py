"""The model card of an adapter."""

import ast
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).parents[3] / "config"


def describe(study: Path, variant: str, output: Path) -> tuple[dict, str]:
    """Front matter and text of the card that the script writes."""
    import describe_adapter

    folder = study / "results" / "trial" / "movie_preference" / variant
    arguments = {
        "--config": folder / "config.yaml",
        "--metrics": folder / "metrics.json",
        "--models": CONFIG / "models.yaml",
        "--datasets": CONFIG / "datasets.yaml",
        "--output": output,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["describe_adapter", *(str(x) for pair in arguments.items() for x in pair)])
        describe_adapter.main()
    _, front, text = output.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_card_of_a_trained_variant(study, tmp_path):
    front, text = describe(study, "tuned", tmp_path / "README.md")
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["library_name"] == "peft"
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["movielens-100k"]
    assert "lora" in front["tags"]
    assert "| Accuracy, hard pairs |" in text
    assert "4,884,480 of 139,399,488 weights trained" in text
    assert "Do not use it" not in text


def test_card_shows_code_that_parses_and_loads_with_peft(study, tmp_path):
    _, text = describe(study, "tuned", tmp_path / "README.md")
    code = text.split("```python\n")[1].split("```")[0]
    ast.parse(code)
    assert 'PeftModel.from_pretrained(base, "adapter")' in code
    assert "BitsAndBytesConfig" in code  # the default configuration is 4-bit
    assert 'bnb_4bit_compute_dtype="bfloat16"' in code  # what 'auto' was in the training
    assert "frugal" not in code


def test_card_of_the_shortcut_warns(study, tmp_path):
    _, text = describe(study, "always_a", tmp_path / "README.md")
    assert "**Do not use it for recommendations.**" in text
