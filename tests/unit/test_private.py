"""Interfaces of libraries that are not public do what Frugal needs of them; an upgrade that changes one fails here.

What then happens stands beside its use, in `frugal/private/`.
"""

import ast
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from frugal.private.bitsandbytes import keep_layout, quantization_state
from frugal.private.snakemake import LOCKS, NOTES, noted_outputs, timed_file
from frugal.private.torch import cpu_attention, dispatch_mode, int8_matmul, softmax_gradient
from frugal.private.transformers import attention_name, length_grouped_indices
from frugal.recsys.modeling import BERT4Rec
from frugal.run.device import cpu_capabilities

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "workflow/scripts"


@contextmanager
def as_read(library: str, what: str):
    """Fail with the library's version and the name of what is no longer there, or no longer the same."""
    try:
        yield
    except Exception as error:
        message = f"{library} {version(library)} has changed {what}: see frugal/private/ ({error!r})"
        raise AssertionError(message) from error


@pytest.mark.skipif(not cpu_capabilities().native_int8, reason="needs VNNI, AMX or Arm's int8 matmuls")
def test_int8_matmuls_are_exact():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-127, 128, (n, 64), dtype=torch.int8, generator=generator) for n in (17, 48))
    with as_read("torch", "torch._int_mm"):
        assert torch.equal(int8_matmul(left, right.t()).long(), left.long() @ right.t().long())


def test_the_gradient_of_a_softmax():
    scores = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    grad = torch.arange(15, dtype=torch.float64).view(3, 5)
    probabilities = scores.softmax(-1)
    probabilities.backward(grad)
    with as_read("torch", "torch._softmax_backward_data"):
        torch.testing.assert_close(softmax_gradient(grad, probabilities.detach()), scores.grad)


def test_a_dispatch_mode_sees_both_passes_and_the_attention_of_a_cpu():
    with as_read("torch", "TorchDispatchMode or the operators of scaled_dot_product_attention"):
        seen = []

        class Mode(dispatch_mode()):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                seen.append(operation)
                return operation(*args, **kwargs or {})

        query = torch.randn(1, 2, 4, 8, requires_grad=True)
        weight = torch.randn(8, 8, requires_grad=True)
        with Mode():
            F.scaled_dot_product_attention(query @ weight, query, query, is_causal=True).sum().backward()
        forward, backward = cpu_attention()
        assert seen.index(forward) < seen.index(backward)
        first, *_, last = (n for n, operation in enumerate(seen) if "mm" in str(operation))
        assert first < seen.index(forward)
        assert seen.index(backward) < last


@pytest.fixture
def llama():
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=8, **shape))


def test_the_name_of_the_attention_is_the_one_that_was_set(llama):
    calls = []

    def attention(module, query, key, value, mask, **kwargs):
        calls.append(kwargs["segments"])
        return query.transpose(1, 2), None

    AttentionInterface.register("recorded", attention)
    with as_read("transformers", "config._attn_implementation or set_attn_implementation"):
        before = attention_name(llama)
        llama.set_attn_implementation("recorded")
        assert (before, attention_name(llama)) == ("sdpa", "recorded")
        llama(input_ids=torch.arange(4)[None], segments=[1, 3])
        assert calls == [[1, 3]]


def test_the_order_by_groups_of_like_length():
    lengths = list(range(20, 0, -1))
    with as_read("transformers", "get_length_grouped_indices"):
        order = length_grouped_indices(lengths, 2, torch.Generator().manual_seed(0))
        assert order == [0, 5, 13, 19, 3, 6, 7, 14, 2, 9, 11, 17, 10, 12, 16, 18, 4, 1, 8, 15]


def test_every_first_weight_is_drawn_by_the_recommender(monkeypatch):
    drawn = []
    monkeypatch.setattr(BERT4Rec, "_init_weights", lambda self, module: drawn.append(module))
    with as_read("transformers", "PreTrainedModel._init_weights"):
        model = BERT4Rec(BERT4Rec.config_class(item_count=7, user_count=3, hidden_size=4, num_attention_heads=2))
        assert {module for module in model.modules() if list(module.parameters(recurse=False))} <= set(drawn)


def test_4_bit_weights_keep_their_layout_and_have_a_state():
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    with as_read("bitsandbytes", "Linear4bit.support_avx512bf16_for_cpu or Params4bit.quant_state"):
        layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        weight = torch.linspace(-1, 1, 64 * 64).view(64, 64)
        layer.load_state_dict({"weight": weight})
        layer = layer.to("cpu").eval()
        assert quantization_state(weight) is None
        restored = dequantize_4bit(layer.weight.data, quantization_state(layer.weight))
        torch.testing.assert_close(restored.float(), weight, atol=0.2, rtol=0)
        # `forward` reads the flag, and nothing else that a processor decides.
        assert "support_avx512bf16_for_cpu" in Linear4bit.forward.__code__.co_names
        layer.support_avx512bf16_for_cpu = True
        keep_layout(torch.nn.Sequential(layer))
        assert layer.support_avx512bf16_for_cpu is False
        packed = layer.weight.data.clone()
        with torch.no_grad():
            layer(torch.ones(2, 64))
        assert torch.equal(layer.weight.data, packed)


#: Longer than a file's name can be, so that Snakemake cuts the name of its notes into folders.
LONG = "/".join(["made", *["long_name_" * 20] * 4, "a.txt"])
SNAKEFILE = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPTS)!r})
from frugal.private import snakemake as private

settings, limits = private.resource_limits(workflow)
limits["mem_mb"] = 50
FACTS = {{
    "main": private.is_main_process(workflow),
    "here": private.runs_jobs_here(workflow),
    "conda": private.uses_conda(workflow),
    "deploys": private.deploys_environments(workflow),
    "files": private.config_files(workflow, Path.cwd()),
    "elsewhere": private.config_files(workflow, Path("/elsewhere")),
    "given": private.given_settings(workflow),
    "cores": [settings.cores, limits["_cores"].value],
    "nodes": settings.nodes,
    "limit": limits["mem_mb"].value,
}}

onstart:
    FACTS["jobs"] = {{job.rule.name: private.declared_resource(job, "mem_mb") for job in private.jobs_to_run(workflow)}}
    private.snakemake_logger().info("said by the logger")
    print("FACTS", json.dumps(FACTS))

rule all:
    input: {LONG!r}, "folder"
rule make:
    output: {LONG!r}
    resources: mem_mb=lambda wildcards, attempt: 123 * attempt
    shell: "ls .snakemake/{LOCKS}/*.lock > made/locks; touch {{output}}"
rule fill:
    output: directory("folder")
    shell: "mkdir {{output}}"
"""


def test_snakemake_says_what_it_was_asked_and_notes_what_it_made(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "settings.yaml").write_text("a: 1\n")
    settings = ["--configfile", "settings.yaml", "--config", "bb={c: d}"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *settings]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    with as_read("snakemake", "an attribute of the workflow, or its files in .snakemake"):
        assert run.returncode == 0, run.stderr[-1500:]
        facts = json.loads(re.search(r"^FACTS (.*)$", run.stdout, re.MULTILINE)[1])
        assert facts == {
            "main": True,
            "here": True,
            "conda": False,
            "deploys": False,
            "files": ["settings.yaml"],
            "elsewhere": [str(tmp_path / "settings.yaml")],
            "given": {"bb": {"c": "d"}},
            "cores": [1, 1],
            "nodes": None,
            "limit": 50,
            "jobs": {"all": None, "make": 123, "fill": None},
        }
        assert "said by the logger" in run.stderr
        assert (tmp_path / "made/locks").read_text().count(".lock\n") == 2
        notes = tmp_path / ".snakemake" / NOTES
        noted = dict(noted_outputs(notes))
        assert set(noted) == {Path(LONG), Path("folder")}
        record = json.loads((notes / noted[Path("folder")]).read_text())
        stamp = timed_file(tmp_path / "folder")
        assert stamp.name == ".snakemake_timestamp"
        assert record["endtime"] == pytest.approx(stamp.stat().st_mtime, abs=1e-3)


def private_uses(tree: ast.AST) -> list[str]:
    """Names with an underscore that code takes from something else than itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = [] if re.match(r"(self|cls|super\(\))$", ast.unparse(node.value)) else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        else:
            continue
        found += [ast.unparse(node) for name in names if re.match(r"_[^_]", name)]
    return found


def test_no_other_module_uses_private_names():
    """Python's own documented `_asdict` and `os._exit` are none."""
    modules = [*SCRIPTS.rglob("*.py"), *(REPOSITORY / "bench").rglob("*.py")]
    found = {
        f"{path.relative_to(REPOSITORY)}: {use}"
        for path in modules
        if path.parent.name != "private"
        for use in private_uses(ast.parse(path.read_text(encoding="utf-8")))
        if not use.endswith(("._asdict", "os._exit"))
    }
    assert found == set()
    assert private_uses(ast.parse("import torch\nfrom a._b import c\ntorch._int_mm")) == [
        "from a._b import c",
        "torch._int_mm",
    ]


def test_rules_use_few_attributes_of_the_workflow_themselves():
    texts = {path: path.read_text() for path in (REPOSITORY / "Snakefile", *(REPOSITORY / "rules").glob("*.smk"))}
    used = {name for text in texts.values() for name in re.findall(r"\bworkflow\.(\w+)", text)}
    assert used == {"current_basedir"}


def test_snakemake_does_not_load_torch_for_it():
    code = "import sys, frugal.private.snakemake; print({'torch', 'transformers'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert run.stdout == "set()\n"
