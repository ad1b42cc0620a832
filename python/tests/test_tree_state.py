"""What `.ci/run` asks at its end: whether the run has changed the repository, whatever was changed before."""

import os
import shutil
import subprocess
from pathlib import Path

from programs import ROOT


def state(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """What the script says of a folder."""
    return subprocess.run(
        [ROOT / "scripts" / "tree-state", *([before] if before else [])],
        env={**os.environ, "OWUI_TREE": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


def test_files_that_a_run_leaves_or_changes_are_named(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("1")
    nothing = state(tmp_path)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "")
    if shutil.which("git") is None:
        return
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    # Somebody is at work: a changed file and a new one are there before the run.
    (tmp_path / "kept.txt").write_text("2")
    (tmp_path / "draft.txt").write_text("1")
    before = state(tmp_path).stdout.strip()
    (tmp_path / "ignored").write_text("1")
    assert state(tmp_path, before).returncode == 0
    assert git(tmp_path, "status", "--porcelain") == " M kept.txt\n?? draft.txt\n"
    (tmp_path / "kept.txt").write_text("3")
    (tmp_path / "draft.txt").unlink()
    (tmp_path / "made.json").write_text("1")
    changed = state(tmp_path, before)
    assert changed.returncode == 1
    assert changed.stdout.splitlines()[1:] == ["D\tdraft.txt", "M\tkept.txt", "A\tmade.json"]
