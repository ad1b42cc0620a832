"""The pages are complete and true: they build without a warning, and what they tell people to type works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from openwebui_token_tracking import executable

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "docs" / "source"
OURS = re.compile(r"^owui-token-tracking ", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    text = (SOURCE / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", SOURCE, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").exists()


def test_the_commands_are_those_of_the_program() -> None:
    command = [sys.executable, ROOT / "scripts" / "command-reference", executable.find()]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert (SOURCE / "commands.md").read_text(encoding="utf-8") == made, "run scripts/command-reference"


def test_what_administrators_type_works(url: str, tmp_path: Path) -> None:
    programs, folder = tmp_path / "bin", tmp_path / "work"
    programs.mkdir()
    folder.mkdir()
    shutil.copy(executable.find(), programs / "owui-token-tracking")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    typed = [block for page in ("administration.md", "extending.md") for block in blocks(page, "sh")]
    assert len(typed) >= 8
    for block in typed:
        assert OURS.search(block)
        done = subprocess.run(
            ["sh", "-eu", "-c", block],
            # Some of them write files.
            cwd=folder,
            env={**os.environ, "PATH": path, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{block}{done.stderr}"


def test_the_script_works(url: str, tmp_path: Path) -> None:
    [script] = blocks("extending.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr


def test_links_of_the_other_pages_lead_somewhere() -> None:
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{page}: {link}"
