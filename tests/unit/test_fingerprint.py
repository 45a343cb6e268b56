"""What counts as a change of code."""

import ast

import pytest

from frugal import fingerprint as module

B = 'SOURCE = "b.c"\n\ndef g():\n    return 1\n'


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A little library: script -> frugal.a -> frugal.sub.b; frugal.c is not imported."""
    frugal = tmp_path / "frugal"
    (frugal / "sub").mkdir(parents=True)
    (frugal / "__init__.py").write_text("")
    (frugal / "sub" / "__init__.py").write_text("")
    (frugal / "a.py").write_text("def f():\n    from frugal.sub.b import g\n    return g()\n")
    (frugal / "sub" / "b.py").write_text(B)
    (frugal / "sub" / "b.c").write_text("int x = 1;\n")  # which b compiles
    (frugal / "c.py").write_text("X = 1\n")
    (tmp_path / "script.py").write_text("import os\nfrom frugal import a\n\nprint(a.f())\n")
    monkeypatch.setattr(module, "LIBRARY", frugal)
    return tmp_path


def digest(library):
    for cached in (module._read, module._code, module._own_hash):
        cached.cache_clear()
    return module.code_hash(library / "script.py")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("script.py", "import os\nfrom frugal import a\nprint(a.f(), 1)\n", True),
        ("script.py", "# said\nimport os\nfrom frugal import a\nprint(  a.f())\n", False),
        ("frugal/a.py", "def f():\n    from frugal.sub.b import g\n    return g() + 1\n", True),
        ("frugal/sub/b.py", B.replace("1", "2"), True),
        ("frugal/sub/b.py", '"""Said."""\n' + B.replace(":\n", ':\n    """Said."""\n'), False),
        ("frugal/sub/b.py", B.replace("1", "1  # one"), False),
        ("frugal/sub/__init__.py", '"""Said."""\n', False),
        ("frugal/sub/__init__.py", "X = 1\n", True),  # it runs when b is imported
        ("frugal/__init__.py", "__version__ = 2\n", False),
        ("frugal/sub/b.c", "int x = 2;\n", True),
        ("frugal/c.py", "X = 2\n", False),
    ],
)
def test_code_counts_comments_and_other_modules_do_not(library, file, text, changes):
    before = digest(library)
    (library / file).write_text(text)
    assert (digest(library) != before) == changes


def change(library, edits: dict[str, str], moves: dict[str, str] | None = None) -> None:
    """Replace text in all Python files, then move files."""
    for file in library.rglob("*.py"):
        text = file.read_text()
        for old, new in edits.items():
            text = text.replace(old, new)
        file.write_text(text)
    for old, new in (moves or {}).items():
        (library / new).parent.mkdir(exist_ok=True)
        (library / new).parent.joinpath("__init__.py").touch()
        (library / old).rename(library / new)


@pytest.mark.parametrize(
    ("edits", "moves"),
    [
        # A module moves, and its imports follow.
        (
            {"frugal.sub.b": "frugal.other.b"},
            {"frugal/sub/b.py": "frugal/other/b.py", "frugal/sub/b.c": "frugal/other/b.c"},
        ),
        ({"frugal import a": "frugal.other import a"}, {"frugal/a.py": "frugal/other/a.py"}),
        # A module of which names are imported has another name.
        ({"frugal.sub.b": "frugal.sub.z"}, {"frugal/sub/b.py": "frugal/sub/z.py"}),
        # A module that is imported itself, and so names a variable, has another name.
        ({"import a": "import z", "a.f()": "z.f()"}, {"frugal/a.py": "frugal/z.py"}),
        ({"import a": "import a as z", "a.f()": "z.f()"}, {}),
        # The source of C, and the script.
        ({"b.c": "z.c"}, {"frugal/sub/b.c": "frugal/sub/z.c"}),
        ({"from frugal.sub.b": "from .sub.b"}, {}),
    ],
)
def test_moves_and_renames_of_modules_do_not_count(library, edits, moves):
    before = digest(library)
    change(library, edits, moves)
    assert digest(library) == before
    change(library, {"return 1": "return 2"})
    assert digest(library) != before


def test_the_scripts_name_and_the_order_of_imports_do_not_count(library):
    script = "import os\nfrom frugal.sub.b import g\nfrom frugal.c import X\nprint(g(), X)\n"
    (library / "script.py").write_text(script)
    before = digest(library)
    # Sorted by the modules' names, as a formatter does it.
    (library / "frugal/c.py").rename(library / "frugal/sub/a.py")
    (library / "script.py").write_text(
        "import os\nfrom frugal.sub.a import X\nfrom frugal.sub.b import g\nprint(g(), X)\n"
    )
    assert digest(library) == before
    (library / "script.py").rename(library / "renamed.py")
    assert module.code_hash(library / "renamed.py") == before


SCRIPT = """
import frugal.a
from frugal import a
from frugal import c
from frugal.sub import b
print(a.f())
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from frugal.sub.b import g", "from frugal.sub.b import h as g"),  # another name of the module
        ("from frugal.sub.b import g", "from frugal.c import g"),  # another module that has the name
        ("from frugal import a", "from frugal.sub import b as a"),  # another module under the same name
        ("print(a.f())", "a = 1\nprint(a.f())"),  # the name is no longer that of the module
    ],
)
def test_what_is_imported_counts(library, old, new):
    (library / "script.py").write_text(SCRIPT)
    before = digest(library)
    change(library, {old: new})
    assert digest(library) != before


def test_a_name_that_is_also_a_parameter_counts(library):
    """`f` returns the module, then its argument, where nothing but the module's name differs."""
    (library / "frugal/z.py").write_text((library / "frugal/a.py").read_text())
    digests = []
    for name in ("a", "z"):
        (library / "script.py").write_text(f"from frugal import {name}\n\ndef f(z):\n    return {name}\n")
        digests.append(digest(library))
    assert digests[0] != digests[1]


def test_settings_count():
    script = module.LIBRARY / "errors.py"
    assert module.fingerprint(script, {"a": 1, "b": 2}) == module.fingerprint(script, {"b": 2, "a": 1})
    assert module.fingerprint(script, {"a": 1}) != module.fingerprint(script, {"a": 2})


#: What the Pythons differ in when they print code: quotes, nested f-strings, escapes, constants, optional syntax.
CODE = r"""
from __future__ import annotations
import os as system

class A(dict, metaclass=type):
    x: int = 1_000
    async def f(self, a, /, b=1.50, *args, c: str | None = None, **kw) -> tuple[int, ...]:
        async with self as s, s:
            await s
        return {**kw, "it's": 'say "it"', b"\xff\0": 1e-7j, "\u2028\U0001fae8": ...}

def g(value, width):
    text = f"{value!r:>{width}.{2}f} and {value['key']} {value=} {{}} " "joined" f"{width:,}"
    text += f"{value:{width}}" u"old" rf"\d{value = !s}" f"{f'{width}':>{width}}{{" f'''{
        value}\N{DIGIT ONE}'''
    match value:
        case [1, *rest] | {"a": A(x=0) as rest} if rest:
            yield from (lambda: not rest)()
    try:
        del text, value[1:, ::2]
    except* (OSError, ValueError) as error:
        raise KeyError from error
    else:
        global h
    return [x := y for y in range(3) if y if -y] or None
"""


def test_the_hash_is_the_same_under_every_python(tmp_path):
    (tmp_path / "code.py").write_text(CODE, encoding="utf-8")
    assert module.code_hash(tmp_path / "code.py")[:16] == "c821f4db02d35f35"


def test_empty_texts_in_format_strings_do_not_count():
    """Python 3.12 reads `f"{a:{b}}"` with an empty text behind `{b}`; others do not."""
    plain, padded = (ast.parse('f"{a:{b}} c"') for _ in range(2))
    text = next(node for node in ast.walk(padded) if isinstance(node, ast.FormattedValue)).format_spec
    text.values.append(ast.Constant(""))
    assert module.canonical(padded) == module.canonical(plain)
    assert module.canonical(ast.parse('f"{a:{b}}"')) != module.canonical(plain)


def test_a_package_without_code_has_a_hash_too():
    assert module.code_hash("workflow/scripts/frugal/report/__init__.py")
