"""What counts as a change of code."""

import pytest

from frugal import fingerprint as module


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A little library: script -> frugal.a -> frugal.sub.b; frugal.c is not imported."""
    frugal = tmp_path / "frugal"
    (frugal / "sub").mkdir(parents=True)
    (frugal / "__init__.py").write_text("")
    (frugal / "sub" / "__init__.py").write_text("")
    (frugal / "a.py").write_text("def f():\n    from frugal.sub.b import g\n    return g()\n")
    (frugal / "sub" / "b.py").write_text("def g():\n    return 1\n")
    (frugal / "sub" / "b.c").write_text("int x = 1;\n")  # which b compiles
    (frugal / "c.py").write_text("X = 1\n")
    (tmp_path / "script.py").write_text("import os\nfrom frugal import a\n\nprint(a.f())\n")
    monkeypatch.setattr(module, "LIBRARY", frugal)
    return tmp_path


def digest(library):
    module._read.cache_clear()
    return module.code_hash(library / "script.py")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("script.py", "import os\nfrom frugal import a\nprint(a.f(), 1)\n", True),
        ("script.py", "# said\nimport os\nfrom frugal import a\nprint(  a.f())\n", False),
        ("frugal/a.py", "def f():\n    from frugal.sub.b import g\n    return g() + 1\n", True),
        ("frugal/sub/b.py", "def g():\n    return 2\n", True),
        ("frugal/sub/b.py", '"""Said."""\n\ndef g():\n    """Said."""\n    return 1\n', False),
        ("frugal/sub/b.py", "def g():\n    return 1  # one\n", False),
        ("frugal/sub/b.c", "int x = 2;\n", True),
        ("frugal/c.py", "X = 2\n", False),
    ],
)
def test_code_counts_comments_and_other_modules_do_not(library, file, text, changes):
    before = digest(library)
    (library / file).write_text(text)
    assert (digest(library) != before) == changes


def test_settings_count():
    script = module.LIBRARY / "errors.py"
    assert module.fingerprint(script, {"a": 1, "b": 2}) == module.fingerprint(script, {"b": 2, "a": 1})
    assert module.fingerprint(script, {"a": 1}) != module.fingerprint(script, {"a": 2})
