"""Files are whole or absent."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from frugal import files
from frugal.data.source.download import locked
from frugal.errors import FrugalError
from frugal.files import (
    _warn_of_no_locks,
    atomic_path,
    exclusive,
    read_json,
    sha256_file,
    sha256_tree,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "result.json"
    write_json(target, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_block_that_fails_after_writing_leaves_nothing_half_done(tmp_path):
    def write_half():
        with atomic_path(tmp_path / "result.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_hashes(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    before = sha256_tree([tmp_path])
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_tree([tmp_path]) != before


@pytest.mark.parametrize("name", [".DS_Store", "._a", "Thumbs.db", "a~", ".a.swp", "#a#", ".#a"])
def test_what_editors_and_file_managers_leave_does_not_count(tmp_path, name):
    write_text(tmp_path / "a", "abc")
    before = sha256_tree([tmp_path])
    (tmp_path / name).write_text("x")
    assert sha256_tree([tmp_path]) == before
    (tmp_path / ".hidden").write_text("x")
    assert sha256_tree([tmp_path]) != before


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_there_is_one_warning_and_all_goes_on(tmp_path, monkeypatch, capfd, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    _warn_of_no_locks.cache_clear()
    with exclusive(tmp_path / "run", "training"), locked(tmp_path / "a.zip"):
        write_text(tmp_path / "whole", "a")
    assert (tmp_path / "whole").read_text() == "a"
    assert capfd.readouterr().err.splitlines() == [
        "warning: this file system has no locks: two processes that do the same at a time would disturb each other"
    ]


def test_a_held_folder_is_refused(tmp_path):
    held = pytest.raises(FrugalError, match="another process is training here")
    with exclusive(tmp_path, "training"), held, exclusive(tmp_path, "training"):
        pass


def test_json_is_written_for_people(tmp_path):
    write_json(tmp_path / "x.json", {"title": "Léon"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "Léon" in text
    assert json.loads(text) == {"title": "Léon"}


def write_for_ever(target):
    """Start a process that is in the middle of writing ``target``; returns when it is."""
    code = f"import time\nfrom frugal.files import atomic_path\nwith atomic_path({str(target)!r}) as path:\n"
    code += "    path.write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_process_leaves_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    target = tmp_path / "result[1].txt"
    killed, living = write_for_ever(target), write_for_ever(target)
    try:
        assert len(list(tmp_path.iterdir())) == 2
        killed.kill()
        killed.communicate()
        write_text(target, "whole")
        left = [path for path in tmp_path.iterdir() if path != target]
        assert [(path / target.name).read_text() for path in left] == ["half"]
    finally:
        living.kill()
        living.communicate()
    write_text(target, "whole again")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / ".result.d").mkdir()
    write_text(tmp_path / "result", "text")
    assert (tmp_path / ".result.d").is_dir()


def test_the_hash_of_a_large_file_is_kept_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "KEPT_FROM", 3)
    monkeypatch.setattr(files, "SETTLED", 0.0)
    read = []
    plain = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: read.append(Path(path).name) or plain(path))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"1234")
    (folder / "small").write_bytes(b"12")
    first = sha256_tree([folder])
    read.clear()
    for _ in range(3):
        assert sha256_tree([folder], kept=True) == first
    assert sorted(read) == ["small", "small", "small", "weights"]
    times = os.stat(folder / "weights")
    (folder / "weights").write_bytes(b"1235")  # of the same size, and with the times that it had
    os.utime(folder / "weights", ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = sha256_tree([folder], kept=True)
    assert changed == sha256_tree([folder]) != first


def test_the_hash_of_a_file_that_has_just_changed_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "KEPT_FROM", 3)
    (tmp_path / "weights").write_bytes(b"1234")
    assert files.kept_sha256(tmp_path / "weights") == files.sha256_file(tmp_path / "weights")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(files, "SETTLED", 0.0)
    (tmp_path / "cache/frugal").mkdir(parents=True)
    (tmp_path / "cache/frugal/hashes.json").write_text('{"a": "no hash"}')  # damaged: counted anew
    assert files.kept_sha256(tmp_path / "weights") == files.sha256_file(tmp_path / "weights")
    assert len(json.loads((tmp_path / "cache/frugal/hashes.json").read_text())) == 1
