"""The installation of a lock into .venv: real pip and small wheels, no network; and the locks themselves."""

import ast
import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "workflow/scripts/install_packages.py"
#: In the virtual environment, the disk is full, or slow, when pip writes the third file of `big`.
FAULT = """\
import builtins, errno, os, time
ordinary = builtins.open
def faulty(file, mode="r", *args, **kwargs):
    if "w" in mode and str(file).endswith("big/part2.py"):
        if os.environ.get("FAULT") == "full":
            with ordinary(file, "wb") as stream:
                stream.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        if os.environ.get("FAULT") == "slow":
            time.sleep(60)
    return ordinary(file, mode, *args, **kwargs)
builtins.open = faulty
"""
UV = """\
#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls.txt"
shift 2
[ "$1" = --python ] && python="$2" && shift 2
"""


BACKEND = """\
import pathlib
def prepare_metadata_for_build_wheel(folder, settings=None):
    info = pathlib.Path(folder) / "source-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: source\\nVersion: 1.0\\n")
    return info.name
def build_wheel(*args):
    raise SystemExit("error: command 'cc' failed")
"""


def wheel(folder, name, version, files=1, requires=(), tag="py3-none-any"):
    """A wheel with ``files`` modules of 1 kB; its path."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    contents = {f"{name}/part{number}.py": "#" * 1000 for number in range(files)}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {requirement}\n" for requirement in requires
    )
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    digest = {file: hashlib.sha256(text.encode()).digest() for file, text in contents.items()}
    rows = [
        f"{file},sha256={base64.urlsafe_b64encode(digest[file]).rstrip(b'=').decode()},{len(text)}\n"
        for file, text in contents.items()
    ]
    contents[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in contents.items():
            archive.writestr(file, text)
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A virtual environment with pip alone, in which a fault can be set."""
    folder = tmp_path_factory.mktemp("bare") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "sitecustomize.py").write_text(FAULT)
    return folder


class Checkout:
    """A folder with the installer, a Makefile, and a lock of small wheels."""

    def __init__(self, folder, bare):
        self.folder, self.wheels, self.bin = folder, folder / "wheels", folder / "bin"
        for made in (self.wheels, self.bin, folder / "envs"):
            made.mkdir(parents=True)
        shutil.copytree(bare, folder / ".venv", symlinks=True)
        shutil.copytree(REPOSITORY / "workflow", folder / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "Makefile", folder)
        self.lock([wheel(self.wheels, "small", "1.0"), wheel(self.wheels, "big", "2.0", files=5)])

    def lock(self, wheels, disk=4096):
        lines, rows = ["--only-binary :all:"], ["package,version,download,disk"]
        for path in wheels:
            name, version = path.name.split("-")[:2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines += [f"{name.replace('_', '-')}=={version} \\", f"    --hash=sha256:{digest}"]
            rows.append(f"{name.replace('_', '-')},{version},{path.stat().st_size},{disk}")
        rows.append("torch+cpu,1.0,1000,1000")
        (self.folder / "envs/requirements.txt").write_text("\n".join(lines) + "\n")
        (self.folder / "envs/sizes.csv").write_text("\n".join(rows) + "\n")

    @property
    def options(self):
        return f"--no-index --find-links {self.wheels}"

    def program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def environment(self, fault=""):
        wanted = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
        path = f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return wanted | {"PATH": path, "HOME": str(self.folder), "FAULT": fault, "PIP_CONFIG_FILE": os.devnull}

    def install(self, *arguments, fault=""):
        script = self.folder / "workflow/scripts/install_packages.py"
        return subprocess.run(
            [sys.executable, script, f"--pip-args={self.options}", *arguments],
            cwd=self.folder,
            env=self.environment(fault),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def make(self, fault=""):
        return subprocess.Popen(
            ["make", ".venv/ready", f"PYTHON={sys.executable}", f"PIP_ARGS={self.options}"],
            cwd=self.folder,
            env=self.environment(fault),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def site(self):
        (site,) = (self.folder / ".venv").glob("lib/python3*/site-packages")
        return site

    def versions(self):
        found = (path.name.removesuffix(".dist-info").rsplit("-", 1) for path in self.site.glob("*.dist-info"))
        return {name: version for name, version in found if name not in ("pip", "setuptools")}

    def whole(self):
        return [(self.site / f"big/part{number}.py").read_text() for number in range(5)] == ["#" * 1000] * 5


@pytest.fixture
def checkout(tmp_path, bare):
    return Checkout(tmp_path / "checkout", bare)


def test_pip_installs_what_is_missing_and_says_how_much_before(checkout):
    first = checkout.install()
    assert first.returncode == 0, first.stdout
    assert re.search(r"Installing 2 packages by pip: about 0\.00 GB to download, 0\.00 GB on disk\.", first.stdout)
    assert checkout.versions() == {"small": "1.0", "big": "2.0"}
    assert checkout.whole()
    assert not list(checkout.site.glob("big/__pycache__"))
    assert not (checkout.folder / ".venv/tmp").exists()
    second = checkout.install()
    assert re.fullmatch(r"\.venv has all of envs/requirements\.txt \(\d:\d\d\)\.\n", second.stdout)


def test_the_study_is_announced(checkout):
    result = checkout.install("--study", "laptop")
    assert re.search(
        r"The study after it: 0\.\d\d GB to download, \d\.\d\d GB on disk; \d+\.\d\d GB are free", result.stdout
    )


def test_a_changed_lock_changes_the_environment(checkout):
    checkout.install()
    checkout.lock([wheel(checkout.wheels, "small", "1.1"), checkout.wheels / "big-2.0-py3-none-any.whl"])
    result = checkout.install()
    assert "Installing small by pip" in result.stdout
    assert checkout.versions()["small"] == "1.1"


def test_another_file_than_the_locked_one_is_refused(checkout):
    wheel(checkout.wheels, "big", "2.0", files=6)
    result = checkout.install()
    assert result.returncode == 1
    assert "error: pip: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in result.stdout


def test_no_wheel_for_this_python(checkout):
    checkout.lock([wheel(checkout.wheels, "old", "3.0", tag="cp27-cp27m-win32")])
    result = checkout.install()
    assert result.returncode == 1
    version, machine = ".".join(map(str, sys.version_info[:3])), os.uname().machine
    assert f"error: old 3.0: no file for Python {version} on {os.uname().sysname} {machine} was found" in result.stdout
    assert "choose another Python" in result.stdout


def test_a_package_that_is_not_compiled(checkout):
    """It has no wheel, and its source cannot be built, as without a compiler."""
    source = checkout.wheels / "source-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n'
    )
    (source / "build.py").write_text(BACKEND)
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: source\nVersion: 1.0\n")
    archive = shutil.make_archive(str(source), "gztar", checkout.wheels, "source-1.0")
    checkout.lock([Path(archive)])
    lock = checkout.folder / "envs/requirements.txt"
    lock.write_text(lock.read_text().replace("1.0.tar.gz", "1.0").replace(":all:", ":all:\n--no-binary source"))
    result = checkout.install()
    assert result.returncode == 1
    assert "error: source has no wheel for Python" in result.stdout
    assert "install a C compiler" in result.stdout


def test_an_index_that_does_not_answer(checkout):
    script = checkout.folder / "workflow/scripts/install_packages.py"
    command = [sys.executable, script, "--pip-args=--retries 1 --index-url http://127.0.0.1:9/simple"]
    result = subprocess.run(command, cwd=checkout.folder, env=checkout.environment(), capture_output=True, text=True)
    assert result.returncode == 1
    assert "error: the package index was not reached" in result.stderr


def test_too_small_a_disk_is_refused_before_anything_is_fetched(checkout):
    checkout.lock([checkout.wheels / "small-1.0-py3-none-any.whl"], disk=10**16)
    result = checkout.install()
    assert result.returncode == 1
    assert re.search(r"need 10000000\.\d\d GB here, and \d+\.\d\d GB are free: make room", result.stdout)
    assert checkout.versions() == {}


def test_a_disk_that_fills_up_and_a_second_run(checkout):
    result = checkout.install(fault="full")
    assert result.returncode == 1
    assert re.search(r"error: the disk of \S+ is full .*: make room, and run the same command again", result.stdout)
    assert (checkout.site / "big/part2.py").read_text() == "half"
    result = checkout.install()
    assert result.returncode == 0, result.stdout
    assert checkout.versions() == {"small": "1.0", "big": "2.0"}
    assert checkout.whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_installation_is_not_ready_and_goes_on(checkout, number):
    process = checkout.make(fault="slow")
    while not (checkout.site / "big/part1.py").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted; run the same command again to continue" in output
    assert not (checkout.folder / ".venv/ready").exists()
    process = checkout.make()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert (checkout.folder / ".venv/ready").exists()
    assert checkout.versions() == {"small": "1.0", "big": "2.0"}
    assert checkout.whole()


@pytest.mark.parametrize("damage", ["RECORD", "file", "cut"])
def test_a_package_that_is_not_whole_is_installed_again(checkout, damage):
    checkout.install()
    if damage == "RECORD":
        (checkout.site / "big-2.0.dist-info/RECORD").unlink()
    elif damage == "file":
        (checkout.site / "big/part1.py").unlink()
    else:
        (checkout.site / "big/part1.py").write_text("#")
    result = checkout.install()
    assert "big-2.0 is not whole and is installed again" in result.stdout
    assert checkout.whole()


@pytest.mark.parametrize("broken", ["another Python", "dangling", "half"])
def test_an_environment_that_does_not_work_is_made_anew(checkout, broken):
    python = checkout.folder / ".venv/bin/python"
    if broken == "half":
        shutil.rmtree(checkout.site / "pip")
    else:
        python.unlink()
        python.symlink_to("nowhere")
    if broken == "another Python":
        python.unlink()
        python.write_text("#!/bin/sh\necho 3 8; echo /tmp\n")
        python.chmod(0o755)
    (checkout.folder / ".venv/ready").touch()
    result = checkout.install()
    assert result.returncode == 0, result.stdout
    assert "Making .venv for Python" in result.stdout
    assert not (checkout.folder / ".venv/ready").exists()
    assert checkout.versions() == {"small": "1.0", "big": "2.0"}


def test_the_environment_may_be_a_link_to_another_disk(checkout):
    shutil.rmtree(checkout.folder / ".venv")
    (checkout.folder / "elsewhere").mkdir()
    (checkout.folder / ".venv").symlink_to("elsewhere")
    assert checkout.install().returncode == 0
    assert (checkout.folder / "elsewhere/pyvenv.cfg").exists()
    assert checkout.whole()


def test_a_python_without_venv(checkout):
    shutil.rmtree(checkout.folder / ".venv")
    (checkout.folder / ".venv").write_text("in the way")
    result = checkout.install()
    assert result.returncode == 1
    assert "does not make a working environment: install Python's venv" in result.stdout


def test_an_old_python_is_told_so():
    code = (
        "import collections, runpy, sys\n"
        "class Old(tuple): major, minor = 3, 10\n"
        "sys.version_info = Old((3, 10, 1, 'final', 0))\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(
        r"error: Python 3\.11 or newer is needed, and \S+ is 3\.10: name another one, as in `make report "
        r"PYTHON=python3\.12`\n",
        result.stderr,
    )
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


def test_uv_is_taken_where_it_is(checkout):
    checkout.program("uv", UV + 'exec "$python" -m pip install "$@"\n')
    result = checkout.install()
    assert "Installing 2 packages by uv" in result.stdout
    (call,) = (checkout.bin / "calls.txt").read_text().splitlines()
    assert call.startswith("pip install --python .venv/bin/python --no-index")
    assert "--no-deps --require-hashes -r .venv/lock.txt" in call
    assert checkout.whole()


@pytest.mark.parametrize("text", [UV + "echo 'error: unexpected argument' >&2; exit 2\n", "#!/nowhere\n"])
def test_pip_goes_on_where_uv_fails(checkout, text):
    checkout.program("uv", text)
    result = checkout.install()
    assert result.returncode == 0, result.stdout
    assert re.search(r"uv has failed \(error: .*(unexpected argument|No such file).*\); pip goes on\.", result.stdout)
    assert checkout.whole()


def test_a_full_disk_under_uv_is_not_tried_by_pip(checkout):
    checkout.program("uv", UV + "echo 'error: No space left on device (os error 28)' >&2; exit 2\n")
    result = checkout.install()
    assert result.returncode == 1
    assert re.search(r"error: the disk of \S+ is full", result.stdout)
    assert checkout.versions() == {}


@pytest.fixture
def with_torch(checkout):
    """A lock with a torch for CUDA, as PyPI has it, and its library; the folder of wheels has one for CPUs, too."""
    library = wheel(checkout.wheels, "nvidia_lib", "9.0")
    locked = [
        checkout.wheels / "small-1.0-py3-none-any.whl",
        wheel(checkout.wheels, "torch", "1.0", requires=["nvidia-lib==9.0", "small"]),
        library,
    ]
    checkout.lock(locked)
    wheel(checkout.wheels, "torch", "1.0+cpu", requires=["small", "fast"])
    wheel(checkout.wheels, "fast", "1.0")
    return checkout


CPU = {"small": "1.0", "torch": "1.0+cpu", "fast": "1.0"}
CUDA = {"small": "1.0", "torch": "1.0", "nvidia_lib": "9.0"}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's torch has no CUDA")


@on_linux
@pytest.mark.parametrize(
    ("choice", "gpu", "expected"), [("auto", 0, CPU), ("auto", 1, CUDA), ("cpu", 1, CPU), ("pypi", 0, CUDA)]
)
def test_torch_comes_in_the_build_for_the_machine(with_torch, choice, gpu, expected):
    if Path("/proc/driver/nvidia").exists() and choice == "auto" and not gpu:
        pytest.skip("this machine has a GPU")
    if gpu:
        with_torch.program("nvidia-smi", "#!/bin/sh\n")
    result = with_torch.install("--torch", choice)
    assert result.returncode == 0, result.stdout
    assert with_torch.versions() == expected
    assert "Installing" not in with_torch.install().stdout


@on_linux
def test_without_the_build_for_cpus_torch_comes_with_its_libraries(with_torch):
    (with_torch.wheels / "torch-1.0+cpu-py3-none-any.whl").unlink()
    result = with_torch.install("--torch", "cpu")
    assert result.returncode == 1
    assert "error: torch 1.0+cpu: no file for Python" in result.stdout
    result = with_torch.install()
    assert result.returncode == 0, result.stdout
    assert "the next source is tried" in result.stdout
    assert with_torch.versions() == CUDA


@on_linux
@pytest.mark.parametrize("build", ["cpu", "pypi"])
def test_what_an_interruption_has_left_of_torch_is_completed(with_torch, build):
    """Without the libraries that it needs, of the build that is there and not of the one that would be chosen."""
    if build == "pypi":
        (with_torch.wheels / "torch-1.0+cpu-py3-none-any.whl").unlink()
    with_torch.install()
    (info,) = with_torch.site.glob("nvidia_lib-*.dist-info" if build == "pypi" else "fast-*.dist-info")
    shutil.rmtree(info)
    result = with_torch.install()
    assert result.returncode == 0, result.stdout
    assert info.exists()
    assert with_torch.versions() == (CUDA if build == "pypi" else CPU)


@on_linux
def test_uv_finds_torch_by_its_back_end(with_torch):
    pip = 'case "$*" in *--torch-backend*) exit 2;; esac\nexec "$python" -m pip install "$@"\n'
    with_torch.program("uv", UV + pip)
    result = with_torch.install()
    assert result.returncode == 0, result.stdout
    calls = (with_torch.bin / "calls.txt").read_text().splitlines()
    assert [call.endswith("--torch-backend auto torch==1.0") for call in calls] == [False, True]
    assert with_torch.versions() == CPU


@on_linux
def test_another_build_of_torch_than_the_one_that_is_there(with_torch):
    with_torch.install()
    result = with_torch.install("--torch", "pypi")
    assert "error: .venv has torch 1.0 from cpu: remove it to install another build" in result.stdout
