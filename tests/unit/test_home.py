"""Users without a home folder, or with one that cannot be written."""

import os
import subprocess

import pytest

from frugal.errors import FrugalError
from frugal.files import in_full


def test_a_path_below_a_home_that_is_not_there(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(in_full("~/a")) == "/home/me/a"
    monkeypatch.delenv("HOME")

    def nobody(_):
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert str(in_full("/data/a")) == "/data/a"
    with pytest.raises(FrugalError, match=r"^~/a: this user has no home folder; give the path in full$"):
        in_full("~/a")


@pytest.mark.parametrize(("home", "cache"), [("/proc", ".snakemake/cache"), ("", ".snakemake/cache"), ("here", None)])
def test_make_keeps_caches_where_it_can_write(tmp_path, home, cache):
    (tmp_path / "here").mkdir()
    (tmp_path / "Makefile").write_text(f'include {os.getcwd()}/Makefile\nshow:\n\t@echo "[$$XDG_CACHE_HOME]"\n')
    variables = {"PATH": os.environ["PATH"]} | ({"HOME": str(tmp_path / home)} if home else {})
    command = ["make", "--no-print-directory", "-C", tmp_path, "show"]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert said == f"[{tmp_path / cache if cache else ''}]\n"
