"""What a script's code is, in one hash: the script and every part of the library that it imports.

Snakemake reruns a rule when its parameters change; the hash of its code is one of them. File times
play no part, because a fresh clone gives every file a new one.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent


def fingerprint(script: Path | str, settings: Any = None) -> str:
    """Hex digest over the code of ``script`` and over ``settings``, which JSON can hold."""
    return hashlib.sha256((code_hash(script) + settings_hash(settings)).encode()).hexdigest()[:16]


def settings_hash(settings: Any) -> str:
    """Eight hex digits over ``settings``, which JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def code_hash(script: Path | str) -> str:
    """Hex digest over the code of ``script`` and of all `frugal` modules that it imports, however deep.

    Comments, docstrings and layout do not count, but in C, which stands beside the module that compiles it.
    """
    digest = hashlib.sha256()
    for file, code in sorted(modules_of(script).items()):
        digest.update(f"{file.name}\0{code}\0".encode())
    return digest.hexdigest()


def modules_of(script: Path | str) -> dict[Path, str]:
    """``script`` and all `frugal` modules that it imports, however deep: file to code without comments."""
    pending, seen = [Path(script).resolve()], {}
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        code, imported = _read(file)
        seen[file] = code
        pending.extend(imported)
    return seen


@cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """A file's code without comments and docstrings, and the library files that it imports."""
    if file.suffix == ".c":
        return file.read_text(encoding="utf-8"), ()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    candidates = [
        path
        for module in modules
        if module.split(".")[0] == "frugal"
        for stem in [LIBRARY.parent / Path(*module.split("."))]
        for path in (stem.with_suffix(".py"), stem.with_suffix(".c"), stem / "__init__.py")
    ]
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree), tuple(path for path in candidates if path.is_file())
