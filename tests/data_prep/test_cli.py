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
    assert all(name in done.stdout for name in ("phantom", "nlst", "convert", "cohort", "check"))


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


def test_nlst_says_what_was_taken_and_what_is_missing(monkeypatch, capsys, tmp_path):
    (tmp_path / "places.csv").write_text(
        "pid,study_yr,nodule_id,sct_ab_num,image,x,y,z\n7,0,1,1,s,1,2,3\n7,1,1,1,t,1,2,3\n"
    )
    (tmp_path / "canc.csv").write_text("pid\n8\n")
    places = ("nlst", tmp_path / "places.csv", "--tables", tmp_path)
    code, shown = call(monkeypatch, capsys, *places, "--out", tmp_path / "study")
    assert code == 2 and "prsn: no table of participants" in shown.err and not (tmp_path / "study").exists()
    code, shown = call(monkeypatch, capsys, *places, "--out", tmp_path / "study", "--stand-in")
    assert code in (0, None) and "SIMULATED" in shown.out and "gap: famchild: not in this release" in shown.out
    assert (tmp_path / "study" / "flow.svg").is_file()


def test_convert(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3,4\n")
    code, shown = call(monkeypatch, capsys, "convert", "luna16", tmp_path / "a.csv", "--out", tmp_path / "cohort.csv")
    assert code in (0, None) and "1 nodules" in shown.out and (tmp_path / "cohort.csv").is_file()


def test_faults_go_to_stderr_without_a_traceback(monkeypatch, capsys, tmp_path):
    code, shown = call(monkeypatch, capsys, "cohort", tmp_path / "none.csv", "--out", tmp_path / "data")
    assert code == 2 and "no such file" in shown.err and "Traceback" not in shown.err and not shown.out
