import subprocess
import sys

import pytest

from data_prep import cli


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["data_prep", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr()


def test_help_names_the_commands():
    done = subprocess.run([sys.executable, "-m", "data_prep", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("phantom", "cohort", "check"))


def test_three_commands(monkeypatch, capsys, tmp_path):
    code, _ = call(monkeypatch, capsys, "phantom", tmp_path / "phantom", "--patients", 6, "--seed", 1)
    assert code in (0, None)
    code, shown = call(
        monkeypatch, capsys, "cohort", tmp_path / "phantom" / "cohort.csv", "--out", tmp_path / "data", "--spacing", 0.7
    )
    assert code in (0, None) and "training" in shown.out
    code, shown = call(monkeypatch, capsys, "check", tmp_path / "data", "--picture", tmp_path / "sample.png")
    assert "SIMULATED" in shown.out and (tmp_path / "sample.png").is_file()
    next((tmp_path / "data" / "crops").iterdir()).unlink()
    code, shown = call(monkeypatch, capsys, "check", tmp_path / "data")
    assert code == 1 and "missing file" in shown.out


def test_faults_go_to_stderr_without_a_traceback(monkeypatch, capsys, tmp_path):
    code, shown = call(monkeypatch, capsys, "cohort", tmp_path / "none.csv", "--out", tmp_path / "data")
    assert code == 2 and "no such file" in shown.err and "Traceback" not in shown.err and not shown.out
