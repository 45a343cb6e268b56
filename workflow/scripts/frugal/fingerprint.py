"""The code of a script in one hash: the script and every module of the library that it imports.

Snakemake reruns a rule when its parameters change; the hash of its code is one of them. Comments, docstrings,
formatting, and the names and places of the library's files do not count. Neither do file times: a fresh clone gives
every file a new one.
"""

import ast
import hashlib
import json
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent
#: Stands before and after the path of a library file in code. Such characters are escaped in what the code itself says.
FILE = "\0"
#: Stand around consecutive imports from the library and between them: their order follows the modules' names.
IMPORTS, NEXT = "\1", "\2"


class Reference(str):
    """The path of a library file, in a syntax tree that names that file."""


class LibraryImport(ast.stmt):
    """One import from the library, in a syntax tree.

    Attributes:
        file: the module, or the one that the name comes from.
        name: what is imported from it; None for the module itself.
        local: the name that it has here; `ast.Name` for a module.
    """

    _fields = ("file", "name", "local")


def fingerprint(script: Path | str, settings: Any = None) -> str:
    """Hex digest over the code of ``script`` and over ``settings``, which JSON can hold."""
    return hashlib.sha256((code_hash(script) + settings_hash(settings)).encode()).hexdigest()[:16]


def settings_hash(settings: Any) -> str:
    """Eight hex digits over ``settings``, which JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def code_hash(script: Path | str) -> str:
    """Hex digest over the code of ``script`` and of all `frugal` modules that it imports, however deep.

    Moving or renaming a module together with the imports of it changes nothing. In C, comments and formatting count.
    """
    own, *library = modules_of(script).values()
    return _digest("\n".join([own, *sorted(set(library))]))


def modules_of(script: Path | str) -> dict[Path, str]:
    """``script`` and then all `frugal` modules that it imports, however deep: file -> code without comments and layout.

    An `__init__.py` without code is left out; so is that of `frugal`, the version, unless a name is imported from it.
    """
    script, found = Path(script).resolve(), {}
    pending = [script]
    while pending:
        file = pending.pop()
        if file not in found:
            found[file] = _code(file)
            pending += _read(file)[1]
    return {file: code for file, code in found.items() if file == script or code != EMPTY or file.name != "__init__.py"}


@cache
def _code(file: Path) -> str:
    """The code of a file. Where it names library files, the hashes of their own code stand in it."""
    return _without_order(re.sub(f"{FILE}(.*?){FILE}", lambda match: _own_hash(Path(match[1])), _read(file)[0]))


@cache
def _own_hash(file: Path) -> str:
    """Hash of a file's code alone, whatever library files it names: modules may import each other."""
    return _digest(_without_order(re.sub(f"{FILE}.*?{FILE}", "", _read(file)[0])))


def _without_order(code: str) -> str:
    return re.sub(f"{IMPORTS}(.*?){IMPORTS}", lambda match: ",".join(sorted(match[1].split(NEXT))), code)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _read(file: Path) -> tuple[str, frozenset[Path]]:
    """A file's code (of Python its syntax, without docstrings) with marks where it names library files; and these."""
    if file.suffix != ".py":
        return file.read_text(encoding="utf-8"), frozenset()
    reader = _Reader(file)
    tree = reader.visit(ast.parse(file.read_text(encoding="utf-8")))
    modules = {name: file for name, (file, *more) in reader.modules.items() if not more}
    # A name that stands for one module throughout a file is as good as any other.
    others = _bound_names(tree) if modules else set()
    for node in ast.walk(tree) if modules else ():
        if isinstance(node, ast.Name) and node.id in modules.keys() - others:
            node.id = Reference(modules[node.id])
    return canonical(tree), frozenset(reader.files)


class _Reader(ast.NodeTransformer):
    """Takes docstrings out of a syntax tree, and puts `LibraryImport` and `Reference` where it names library files.

    Attributes:
        files: the library files that are named, and the packages around them.
        modules: name -> the modules that it stands for.
    """

    def __init__(self, file: Path):
        self.file, self.files, self.modules = file, set(), {}

    def generic_visit(self, node: ast.AST) -> ast.AST:
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return super().generic_visit(node)

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [self._module(alias.name, alias.asname) or ast.Import([alias]) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:
        package = node.module
        if node.level:
            folder = self.file.parents[node.level - 1]
            package = ".".join([*folder.relative_to(LIBRARY.parent).parts, *([node.module] if node.module else [])])
        source = _file_of(package)
        if source is None:
            return node
        return [
            self._module(f"{package}.{alias.name}", alias.asname or alias.name) or self._name(package, source, alias)
            for alias in node.names
        ]

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and node.value.endswith(".c") and (self.file.parent / node.value).is_file():
            source = self.file.parent / node.value
            self.files.add(source)
            node.value = Reference(source)
        return node

    def _module(self, module: str, local: str | None) -> LibraryImport | None:
        """The import of a module, by this name; None if there is no such module in the library."""
        file = _file_of(module)
        if file is None:
            return None
        self._reach(module)
        if local:
            self.modules.setdefault(local, set()).add(file)
        return LibraryImport(Reference(file), None, local and ast.Name(local, ast.Load()))

    def _name(self, module: str, file: Path, alias: ast.alias) -> LibraryImport:
        self._reach(module)
        self.files.add(file)
        return LibraryImport(Reference(file), alias.name, alias.asname or alias.name)

    def _reach(self, module: str) -> None:
        """Importing a module runs the packages around it too."""
        parts = module.split(".")
        around = (_file_of(".".join(parts[:length])) for length in range(2, len(parts) + 1))
        self.files |= {file for file in around if file}


def _file_of(module: str) -> Path | None:
    """The file of a module of the library; None for all others."""
    first, *rest = module.split(".")
    if first != LIBRARY.name:
        return None
    place = LIBRARY.joinpath(*rest)
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


def _bound_names(tree: ast.AST) -> set[str]:
    """The names in a syntax tree of anything but modules of the library: variables, arguments, functions, imports."""
    names = set()
    for node in ast.walk(tree):
        used = isinstance(node, ast.Attribute | ast.Constant | ast.keyword)
        if not used and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            for _, value in ast.iter_fields(node):
                names |= {name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)}
    return names


def canonical(node: Any) -> str:
    """A syntax tree as text, the same under every Python: `ast.unparse` chooses other quotes in each, later Pythons add
    fields, which are empty in code of today, and 3.12 puts empty texts into format strings. `kind` is the u
    of `u"text"`, which means nothing.
    """
    if isinstance(node, Reference):
        return f"{FILE}{node}{FILE}"
    if isinstance(node, list):
        parts = []
        for imports, group in groupby(node, lambda item: isinstance(item, LibraryImport)):
            texts = map(canonical, group)
            parts += [f"{IMPORTS}{NEXT.join(texts)}{IMPORTS}"] if imports else texts
        return f"[{','.join(parts)}]"
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    if not isinstance(node, ast.AST):
        return ascii(node)  # not repr: what it escapes depends on the version of Unicode
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, []) and name != "kind"}
    return f"{type(node).__name__}({','.join(f'{name}={canonical(value)}' for name, value in fields.items())})"


EMPTY = canonical(ast.Module([], []))
