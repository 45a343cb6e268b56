"""The commands of the README and of the pages in docs/ are commands: each is planned or run; links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow


def commands(text: str, program: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(block for language, block in blocks if not language).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.startswith(program)]


def pages(folder: Path) -> dict[str, str]:
    """What users read: name -> text."""
    files = [folder / "README.md", folder / "config/README.md", *sorted((folder / "docs").rglob("*.md"))]
    return {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in files}


def test_snakemake_commands_have_a_plan(checkout):
    found = {command for text in pages(checkout.folder).values() for command in commands(text, "snakemake")}
    assert len(found) > 8
    for command in sorted(found):
        if "--report" in command:  # needs finished results: tested with the smoke study
            continue
        if "config/readers.yaml" in command:  # run by the test of the tutorial
            continue
        # Planning asks the conda program for its version, and there may be none here.
        program, *arguments = shlex.split(command.replace("--sdm conda", ""))
        checkout.run(program, "--dry-run", *arguments)


def test_nothing_is_left_to_fill_in(checkout):
    for file, text in pages(checkout.folder).items():
        assert not re.findall(r"@[A-Z]+@|TODO|FIXME", text), file


def test_the_readme_is_one_page(checkout):
    assert len((checkout.folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_make_targets_exist(checkout):
    makefile = (checkout.folder / "Makefile").read_text()
    for file, text in (
        pages(checkout.folder) | {"CHANGELOG.md": (checkout.folder / "CHANGELOG.md").read_text()}
    ).items():
        targets = set(re.findall(r"`make ([a-z0-9-]+)", text))
        targets |= {command.split()[1] for command in commands(text, "make ")}
        for target in targets:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{file}: make {target}"


def test_scripts_that_are_named_exist_and_explain_themselves(checkout):
    text = "".join(pages(checkout.folder).values())
    scripts = set(re.findall(r"workflow/scripts/[a-z_]+\.py", text))
    assert scripts
    for script in scripts:
        assert "usage:" in checkout.run("python", script, "--help").stdout


def test_links_lead_somewhere(checkout):
    for file, text in pages(checkout.folder).items():
        folder = (checkout.folder / file).parent
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            made = link.endswith("configuration.md")  # written when the site is built
            assert link.startswith("http") or made or (folder / link).exists(), f"{file}: {link}"


def test_code_that_is_named_exists(checkout):
    """Paths of the repository, or of the library, between backticks; those of results and data are made by a run."""
    roots = [checkout.folder, checkout.folder / "workflow/scripts/frugal"]
    for file, text in pages(checkout.folder).items():
        for path in set(re.findall(r"`((?:config|envs|profiles|rules|tests|workflow)/[\w./-]+\w)`", text)):
            if "readers.yaml" not in path and "shop.yaml" not in path:
                assert any((root / path).exists() for root in roots), f"{file}: {path}"
