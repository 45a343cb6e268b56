"""Archives of stand-ins, by the ending of their name; the same content gives the same bytes."""

import bz2
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping

from frugal.errors import FrugalError


def pack(name: str, members: Mapping[str, bytes]) -> bytes:
    """The bytes of a file called ``name`` that holds ``members``, path to content; wheels are zip files.

    Raises:
        FrugalError: the name is that of a plain file, which holds one member, and there are several.
    """
    packed = {path: compress(path, content) for path, content in members.items()}
    if name.endswith((".zip", ".whl")):
        return _zip(packed)
    if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2")):
        return compress(name.replace(".tgz", ".tar.gz"), _tar(packed))
    if len(members) != 1:
        raise FrugalError(f"{name}: no stand-in for a file of this name that holds {', '.join(members)}")
    ((path, content),) = members.items()
    return compress(name, content) if not path.endswith((".gz", ".bz2")) else packed[path]


def compress(name: str, content: bytes) -> bytes:
    """``content`` as a file of this name: packed by gzip or bzip2, or plain."""
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    return bz2.compress(content) if name.endswith(".bz2") else content


def wheel(file: str, members: Mapping[str, bytes]) -> bytes:
    """A wheel called ``file`` (PEP 427) with ``members`` and the metadata that pip reads."""
    name, version, *_, python, abi, platform = file.removesuffix(".whl").split("-")
    info = f"{name}-{version}.dist-info"
    tags = "".join(f"Tag: {python}-{abi}-{one}\n" for one in platform.split("."))
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: frugal\nRoot-Is-Purelib: true\n{tags}".encode(),
    }
    content = {**{path: compress(path, data) for path, data in members.items()}, **described}
    rows = (f"{path},sha256={hashlib.sha256(data).hexdigest()},{len(data)}\n" for path, data in content.items())
    return _zip(content | {f"{info}/RECORD": "".join(rows).encode()})


def _zip(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as bundle:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            bundle.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
