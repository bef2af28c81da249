import os
import subprocess
import sys

from data_prep.version import METADATA, VERSION


def test_from_a_folder_with_scripts_of_its_own(tmp_path):
    """As installed, without PYTHONPATH: another bundle's `scripts` does not get in the way of the commands."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("raise ImportError('of another bundle')")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    command = [sys.executable, "-m", "data_prep", "template", "cohort.csv"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "sct_pre_att" in done.stdout and (tmp_path / "cohort.csv").is_file()


def test_help_names_the_commands(call):
    code, shown = call("--help")
    assert code == 0
    assert all(name in shown.out for name in ("phantom", "nlst", "convert", "template", "cohort", "check"))


def test_scripts_are_not_installed(tmp_path):
    """Python finds data_prep everywhere, and `scripts` only where a bundle puts it on the path."""
    code = "import importlib.util as u; print(bool(u.find_spec('data_prep')), bool(u.find_spec('scripts')))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_version(call):
    code, shown = call("--version")
    assert code == 0 and f"namd {VERSION} in {METADATA.parents[1]}" in shown.out and shown.out.count("\n") == 1


def test_three_commands(call, tmp_path):
    code, _ = call("phantom", tmp_path / "phantom", "--patients", 3, "--seed", 1)
    assert code == 0
    code, shown = call("cohort", tmp_path / "phantom" / "cohort.csv", "--out", tmp_path / "data", "--spacing", 0.7)
    assert code == 0 and "training" in shown.out
    code, shown = call("check", tmp_path / "data", "--picture", tmp_path / "sample.png")
    assert "SIMULATED" in shown.out and (tmp_path / "sample.png").is_file()
    next((tmp_path / "data" / "crops").iterdir()).unlink()
    code, shown = call("check", tmp_path / "data")
    assert code == 1 and "missing file" in shown.out


def test_nlst_says_what_was_taken_and_what_is_missing(call, tmp_path):
    (tmp_path / "places.csv").write_text(
        "pid,study_yr,nodule_id,sct_ab_num,image,x,y,z\n7,0,1,1,s,1,2,3\n7,1,1,1,t,1,2,3\n"
    )
    (tmp_path / "canc.csv").write_text("pid\n8\n")
    places = ("nlst", tmp_path / "places.csv", "--tables", tmp_path)
    code, shown = call(*places, "--out", tmp_path / "study")
    assert code == 2 and "prsn: no table of participants" in shown.err and not (tmp_path / "study").exists()
    code, shown = call(*places, "--out", tmp_path / "study", "--stand-in")
    assert code == 0 and "SIMULATED" in shown.out and "gap: famchild: not in this release" in shown.out
    assert (tmp_path / "study" / "flow.svg").is_file()


def test_convert(call, tmp_path):
    (tmp_path / "a.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3,4\n")
    code, shown = call("convert", "luna16", tmp_path / "a.csv", "--out", tmp_path / "cohort.csv")
    assert code == 0 and "1 nodules" in shown.out and (tmp_path / "cohort.csv").is_file()


def test_faults_go_to_stderr_without_a_traceback(call, tmp_path):
    code, shown = call("cohort", tmp_path / "none.csv", "--out", tmp_path / "data")
    assert code == 2 and "no such file" in shown.err and "Traceback" not in shown.err and not shown.out
