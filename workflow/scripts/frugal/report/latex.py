"""report.tex to report.pdf, where LaTeX is installed; the same sources and the same LaTeX give the same bytes."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from frugal.errors import FrugalError
from frugal.files import atomic_path

TEMPLATE = Path(__file__).parent / "templates" / "page.tex.j2"
#: Without a time of their own, files would carry that of their making.
TIMELESS = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
#: Lines of LaTeX's log that are shown of a failure.
SHOWN = 12


def can_compile() -> bool:
    """Whether latexmk is installed, and every package that the report uses."""
    if not shutil.which("latexmk") or not shutil.which("kpsewhich"):
        return False
    # kpsewhich fails where it does not find one of the files.
    return subprocess.run(["kpsewhich", *style_files()], capture_output=True, check=False).returncode == 0


def style_files() -> list[str]:
    """The files of the packages that the report's preamble names."""
    named = re.findall(r"\\usepackage(?:\[[^\]]*\])?\{([^}]+)\}", TEMPLATE.read_text(encoding="utf-8"))
    return [f"{package.strip()}.sty" for packages in named for package in packages.split(",")]


def compile_report(folder: Path, output: Path) -> int:
    """Compile report.tex of ``folder``, which holds tables/ and figures/; nothing but ``output`` is left behind.

    Returns:
        How many lines or boxes are wider than the page.

    Raises:
        FrugalError: latexmk is not installed or fails; with the first errors of its log.
    """
    if not shutil.which("latexmk"):
        raise FrugalError("latexmk is not installed: install LaTeX with latexmk, or use report.html")
    with tempfile.TemporaryDirectory() as workspace:
        command = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", f"-outdir={workspace}"]
        # latexmk's own messages are of no use beside LaTeX's log.
        options = {"cwd": folder, "env": os.environ | TIMELESS, "capture_output": True, "check": False}
        finished = subprocess.run([*command, "report.tex"], **options)
        log = Path(workspace) / "report.log"
        messages = (log.read_bytes() if log.exists() else finished.stdout).decode(errors="replace")
        if finished.returncode:
            raise FrugalError(f"{folder / 'report.tex'}: LaTeX cannot compile it:\n{first_errors(messages)}")
        with atomic_path(output) as temporary:
            shutil.copyfile(Path(workspace) / "report.pdf", temporary)
    return len(re.findall(r"^Overfull \\hbox", messages, re.MULTILINE))


def first_errors(log: str) -> str:
    """The lines of a LaTeX log from its first error on; its last ones where it has none."""
    lines = log.splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith("!")), max(0, len(lines) - SHOWN))
    return "\n".join(lines[start : start + SHOWN])
