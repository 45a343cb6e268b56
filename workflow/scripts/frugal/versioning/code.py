"""The code that a stage of dvc.yaml runs, as hashes: what DVC compares in the place of the bytes of the files."""

import re
from pathlib import Path

from frugal.files import sha256_file
from frugal.fingerprint import code_hash, settings_hash
from frugal.versioning.stages import RULES, VersionedStudy

SCRIPTS = Path(__file__).parents[2]
PROJECT = SCRIPTS.parents[1]
REPORT = SCRIPTS / "frugal/report"


def stage_code(study: VersionedStudy, stage: str) -> dict[str, str]:
    """Script -> hash of its code, for those that the stage's rules depend on; and a hash over the lines of all rules.

    Comments of the rules do not count. The report's stage has two hashes more, of its sections and of its templates.
    """
    texts = [file.read_text(encoding="utf-8") for file in (PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk"))]
    scripts = {SCRIPTS / name for text in texts for name in _scripts(text, RULES[stage])}
    if stage == "train":
        scripts |= {PROJECT / experiment.script for experiment in study.study.experiments.values()}
    hashes = {file.relative_to(PROJECT).as_posix(): code_hash(file) for file in sorted(scripts)}
    hashes["rules"] = settings_hash(sorted(map(_without_comments, texts)))
    if stage == "report":  # sections are imported by their names, which a script's own hash does not follow
        hashes["sections"] = settings_hash(sorted({code_hash(file) for file in REPORT.rglob("[!.]*.py")}))
        templates = [file for suffix in ("j2", "css", "js") for file in REPORT.rglob(f"[!.]*.{suffix}")]
        hashes["templates"] = settings_hash(sorted(map(sha256_file, templates)))
    return hashes


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _scripts(text: str, rules: tuple[str, ...]) -> set[str]:
    """The scripts that ``rules`` name in the text of a rules file as what they depend on."""
    _, *parts = re.split(r"^rule (\w+):$", text, flags=re.MULTILINE)
    bodies = zip(parts[::2], parts[1::2], strict=True)
    return {name for rule, body in bodies if rule in rules for name in re.findall(r'depends_on\("(\w+\.py)"\)', body)}
