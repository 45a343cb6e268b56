"""The README's commands are commands: each is planned or run."""

import re
import shlex

import pytest

pytestmark = pytest.mark.workflow


def commands(text: str, program: str) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.startswith(program)]


def test_snakemake_commands_have_a_plan(checkout):
    for file in ("README.md", "config/README.md"):
        found = commands((checkout.folder / file).read_text(encoding="utf-8"), "snakemake")
        assert found, file
        for command in found:
            if "--report" in command:  # needs finished results: tested with the smoke study
                continue
            # Planning asks the conda program for its version, and there may be none here.
            checkout.run(*shlex.split(command.replace("--sdm conda", "")), "--dry-run")


def test_nothing_is_left_to_fill_in(checkout):
    assert not re.findall(r"@[A-Z]+@|TODO|FIXME", (checkout.folder / "README.md").read_text(encoding="utf-8"))


def test_make_targets_exist(checkout):
    makefile = (checkout.folder / "Makefile").read_text()
    for file in ("README.md", "config/README.md", "CHANGELOG.md"):
        text = (checkout.folder / file).read_text(encoding="utf-8")
        for target in set(re.findall(r"`make ([a-z-]+)", text)):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{file}: make {target}"


def test_scripts_that_are_named_exist_and_explain_themselves(checkout):
    text = (checkout.folder / "README.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"workflow/scripts/\w+\.py", text))
    assert scripts
    for script in scripts:
        assert "usage:" in checkout.run("python", script, "--help").stdout


def test_links_lead_somewhere(checkout):
    for file in ("README.md", "config/README.md"):
        folder = (checkout.folder / file).parent
        for link in re.findall(r"\]\(([^)#]+)\)", (checkout.folder / file).read_text(encoding="utf-8")):
            assert link.startswith("http") or (folder / link).exists(), f"{file}: {link}"
