"""A program that is told to end removes what is temporary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.stopping import STOPPED, ended_by_sigterm, own_folder

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys, tempfile, time
from deploy.stopping import ended_by_sigterm
with {within}tempfile.TemporaryDirectory(dir=sys.argv[1]):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("within", "status"), [("ended_by_sigterm(), ", STOPPED), ("", -signal.SIGTERM)])
def test_what_is_temporary_goes_at_sigterm(tmp_path: Path, within: str, status: int) -> None:
    """And stays without it, which is why it is needed."""
    command = [sys.executable, "-c", PROGRAM.format(within=within), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        assert len([*tmp_path.iterdir()]) == 1
        process.terminate()
        assert process.wait(30) == status == (143 if within else -15)
    assert len([*tmp_path.iterdir()]) == (0 if within else 1)


def test_a_second_signal_does_not_cut_the_removing_off() -> None:
    """And what the signal did before it does again."""
    before, removed = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as stopped, ended_by_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            removed.append("all")
    assert stopped.value.code == 143 and removed == ["all"] and signal.getsignal(signal.SIGTERM) == before


OWNER = """
import sys, tempfile, time
from deploy.stopping import own_folder
tempfile.tempdir = sys.argv[1]
(own_folder("namd-test-") / "scan").touch()
print("begun", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_left_goes_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither what a living one has, nor what is none of ours."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "namd-test-link").symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        (theirs,) = tmp_path.glob("namd-test-*/scan")
        first = own_folder("namd-test-")
        assert theirs.is_file() and first.stat().st_mode & 0o077 == 0
        process.kill()
        process.wait(30)
    second = own_folder("namd-test-")
    assert not theirs.parent.exists() and first.is_dir() and second != first
    assert (tmp_path / "namd-test-link").is_symlink() and (tmp_path / "elsewhere" / "file").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        (tmp_path / "namd-test-of-another").mkdir()
        own_folder("namd-test-")
    assert (tmp_path / "namd-test-of-another").is_dir()
