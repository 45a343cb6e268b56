"""The tokens in the environment of the smoke study are nowhere in what it has written."""

import base64

import pytest

pytestmark = pytest.mark.workflow


def leaks(folder, secrets):
    """Files below a folder that hold a secret as it is, or as its metadata would: in base64."""
    wanted = {}
    for name, secret in secrets.items():
        wanted[secret.encode()] = name
        for offset in range(3):  # base64 of a secret differs by where it begins
            coded = base64.b64encode(b"\0" * offset + secret.encode())
            wanted[coded[4 * (offset > 0) : -4]] = name
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            yield from (f"{path.relative_to(folder)} holds {name}" for text, name in wanted.items() if text in content)


def test_no_token_is_in_what_a_study_writes(smoke, secrets):
    written = [path for path in smoke.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".json", ".html")]
    assert len(written) > 100
    # This test, and what it is read from, name them.
    assert not [leak for leak in leaks(smoke.folder, secrets) if not leak.startswith("tests/")]


@pytest.mark.parametrize("offset", range(3))
def test_leaks_are_noticed(tmp_path, secrets, offset):
    for name, secret in secrets.items():
        (tmp_path / f"{name}.log").write_text(f"token={secret}\n")
        coded = base64.b64encode(b"x" * offset + f"{secret}, and more".encode())
        (tmp_path / f"{name}.metadata").write_bytes(b'{"params": "' + coded + b'"}')
    (tmp_path / "harmless.log").write_text("token=***\n")
    assert {leak.split(" ")[0] for leak in leaks(tmp_path, secrets)} == {
        f"{name}.{kind}" for name in secrets for kind in ("log", "metadata")
    }
