"""A program that is told to end removes what is temporary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.stopping import STOPPED, ended_by_sigterm

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
