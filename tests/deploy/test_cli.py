"""``python -m deploy predict`` in this process."""

import errno
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from data_prep.errors import DataError
from deploy import case, cli, dicom_case
from deploy.worker import Spool
from deploy.worker.spool import REQUEST, Item
from scripts.errors import UserError
from tests.deploy.scans import RECORD

ROOT = Path(__file__).resolve().parents[2]

RESULT = {
    "methods": [{"method": "record_only", "title": "the record alone", "probability": 0.12, "held_out": None}],
    "growth": {"not_measurable": "no nodule was found"},
    "flags": ["The scan ends within the crop."],
    "held_out_cases": {"simulated": None},
}


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """The command with a record, a scan that is not there, and what is given: exit status and what was printed."""

    def run(*arguments, ehr=None):
        (tmp_path / "EHR.json").write_text(json.dumps(RECORD) if ehr is None else ehr)
        command = ["predict", tmp_path / "SCAN", "--ehr", tmp_path / "EHR.json", "--out", tmp_path / "out", *arguments]
        monkeypatch.setattr(sys, "argv", ["deploy", *map(str, command)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr()

    return run


def test_options_reach_the_case_and_its_result_is_told(call, monkeypatch, tmp_path):
    asked = {}

    def predict(self, series, point, record, out, **options):
        asked.update(options | self.settings, models=self.models, series=series, point=point, record=record, out=out)
        return RESULT

    monkeypatch.setattr(case.Predictor, "predict", predict)
    options = ["--interval_days", "180", "--models_dir", "weights", "--num_runs", "4", "--solver", "dpmpp"]
    code, shown = call("--point", "-70,0,102.5")
    assert code == 0 and "guidance_scale" not in asked  # the weights' own
    options += ["--num_steps", "12", "--guidance_scale", "1"]
    code, shown = call("--point", "-70,0,102.5", *options, "--transform", "qform")
    assert code == 0 and asked["point"] == (-70.0, 0.0, 102.5) and asked["record"] == RECORD
    assert asked["series"] == tmp_path / "SCAN" and asked["out"] == tmp_path / "out"
    assert (asked["interval_days"], asked["models"].name, asked["num_runs"]) == (180, "weights", 4)
    assert (asked["solver"], asked["num_steps"], asked["transform"]) == ("dpmpp", 12, "qform")
    assert asked["guidance_scale"] == 1
    for words in ("12 % by the record alone", "flag: The scan ends within the crop.", "panel.png", "research use only"):
        assert words in shown.out


def test_options_of_objects_reach_them(call, monkeypatch, tmp_path):
    asked = {}

    def predict(predictor, series, point, record, out, dicom, **options):
        asked.update(options | predictor.settings, dicom=dicom)
        return RESULT

    monkeypatch.setattr(dicom_case, "predict", predict)
    code, _ = call("--point", "-70,0,102.5", "--dicom", tmp_path / "dicom", "--with_slice", "--secret", "file")
    assert code == 0 and asked["dicom"] == tmp_path / "dicom" and asked["with_slice"]
    assert str(asked["secret"]) == "file" and asked["num_runs"] == 20
    code, shown = call("--point", "-70,0,102.5", "--dicom", tmp_path / "dicom", "--transform", "qform")
    assert code == 2 and "--transform: of NIfTI" in shown.err


def test_the_worker_and_its_status(tmp_path, monkeypatch, capsys):
    (tmp_path / "worker.toml").write_text(f'spool = "{tmp_path}/spool"\nsecret = "{tmp_path}/secret"\n')
    (tmp_path / "spool" / "inbox" / "Doe").mkdir(parents=True)
    for command in (["worker", tmp_path / "worker.toml", "--once"], ["status", tmp_path / "worker.toml"]):
        monkeypatch.setattr(sys, "argv", ["deploy", *map(str, command)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
    told = capsys.readouterr().out
    assert "inbox 1\nwork 0\nresults 0\ndone 0\ndead 0\n1 for a request in its folder, since 20" in told
    assert "Doe" not in told


def test_a_worker_that_hangs_is_found(tmp_path, monkeypatch, capsys):
    config, spool = tmp_path / "worker.toml", tmp_path / "spool"
    config.write_text(f'spool = "{spool}"\n')

    def healthy(*options):
        monkeypatch.setattr(sys, "argv", ["deploy", "healthy", str(config), *options])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr().out

    assert healthy() == (1, "last sign of life: never\n")
    Spool(spool).beat()
    assert healthy() == (0, "last sign of life: 0.0 minutes ago\n")
    os.utime(spool / "beat", (0, time.time() - 1900))
    assert healthy()[0] == 1 and healthy("--within_minutes", "60")[0] == 0


def test_the_dead_are_tried_again_by_their_numbers_or_all(tmp_path, monkeypatch, capsys):
    config, spool, numbers = tmp_path / "worker.toml", Spool(tmp_path / "spool"), []
    config.write_text(f'spool = "{tmp_path}/spool"\n')
    for told in ({}, {}, {"awaits": REQUEST}):
        with spool.staging() as folder:
            numbers.append(spool.put(folder, by="user a", **told))
        spool.bury(Item(spool.root / "work" / numbers[-1]), "why")

    def retry(*arguments):
        monkeypatch.setattr(sys, "argv", ["deploy", "retry", str(config), *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    for wrong in ((), ("1-ab",), ("../work",), (numbers[2],), (numbers[0], "--all")):
        code, out, err = retry(*wrong)
        assert (code, out, err.count("\n")) == (2, "", 1) and spool.status()["dead"] == 3
    assert retry(numbers[1]) == (0, f"{numbers[1]} is tried again\n", "") and spool.status()["work"] == 1
    assert retry("--all") == (0, f"{numbers[0]} is tried again\n", "") and spool.status()["work"] == 2


def test_what_a_worker_makes_is_its_owners_and_purged(tmp_path, monkeypatch, capsys):
    def run(*command):
        monkeypatch.setattr(sys, "argv", ["deploy", *map(str, command)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr()

    config = tmp_path / "worker.toml"
    config.write_text(f'spool = "{tmp_path}/spool"\nsecret = "{tmp_path}/secret"\n')
    old = os.umask(0o002)
    try:
        assert run("worker", config, "--once")[0] == 0
        (tmp_path / "spool" / "done" / "a").mkdir()
    finally:
        os.umask(old)
    assert not any(path.stat().st_mode & 0o077 for path in (tmp_path / "spool").rglob("*"))
    code, shown = run("purge", config)
    assert code == 2 and "keep_days" in shown.err
    assert "done 0 removed" in run("purge", config, "--older_than", "1")[1].out
    assert "done 1 removed" in run("purge", config, "--older_than", "0")[1].out
    assert not [*(tmp_path / "spool" / "done").iterdir()]
    code, shown = run("door", config)
    assert code == 2 and "no tokens" in shown.err


def test_the_commands_of_the_documents_are_taken(call, monkeypatch):
    monkeypatch.setattr(case.Predictor, "predict", lambda *_, **options: RESULT)
    monkeypatch.setattr(dicom_case, "predict", lambda *_, **options: RESULT)
    texts = [(ROOT / name / "README.md").read_text() for name in ("", "deploy")]
    for text in texts:
        for command in re.findall(r"^    python -m deploy predict (.*)$", text, flags=re.MULTILINE):
            _, point, *_ = (options := shlex.split(command))[1:]
            assert options[3:8:2] == ["--ehr", "--out", "--dicom"][: len(options[3::2])]
            assert call("--point", point, *options[7:])[0] == 0
    explained = set(re.findall(r"`(--\w+)`", texts[1]))
    commands = get_command(cli.app).commands.values()
    assert explained <= {name for command in commands for option in command.params for name in option.opts}


@pytest.mark.parametrize(
    ("point", "ehr", "words"),
    [
        ("1,2", "{}", "expected x,y,z"),
        ("1,2,3", "[1]", "EHR.json"),
        ("1,2,3", "{", "EHR.json"),
        ("1,2,3", '{"age": 630}', "age: 630"),
        ("1,2,3", json.dumps(RECORD), "no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line(call, tmp_path, point, ehr, words):
    code, shown = call("--point", point, ehr=ehr)
    assert code == 2 and words in shown.err and shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


def test_errors_are_found_beneath_those_that_wrap_them():
    def wrapped(error):
        try:
            raise RuntimeError("MONAI's") from error
        except RuntimeError as outer:
            return outer

    assert cli.told_within(wrapped(UserError("a"))) == "a" and cli.told_within(wrapped(DataError("b"))) == "b"
    assert "No space" in cli.told_within(wrapped(OSError(errno.ENOSPC, "No space left", "out")))
    assert cli.told_within(wrapped(OSError(errno.ENOENT, "gone"))) is None and cli.told_within(KeyError("c")) is None


def test_a_worker_that_could_answer_nothing_says_so_in_a_line(monkeypatch, capsys, tmp_path):
    config = tmp_path / "worker.toml"
    config.write_text(f'spool = "{tmp_path}/spool"\nsecret = "{tmp_path}/secret"\n[settings]\nsolver = "dpm"\n')
    monkeypatch.setattr(sys, "argv", ["deploy", "worker", str(config), "--once"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and capsys.readouterr().err == "solver is 'dpm', expected ddim or dpmpp.\n"


@pytest.mark.parametrize("command", ["worker", "predict"])
def test_what_has_records_in_its_hands_puts_them_away_when_it_is_stopped(command, call, monkeypatch, tmp_path):
    put_away = []

    def stopped(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            put_away.append("record")

    monkeypatch.setattr("deploy.worker.work.Worker.run", stopped)
    monkeypatch.setattr(case.Predictor, "predict", stopped)
    before = signal.getsignal(signal.SIGTERM)
    if command == "predict":
        assert call("--point", "-70,0,102.5")[0] == 143
    else:
        (tmp_path / "worker.toml").write_text(f'spool = "{tmp_path}/spool"\nsecret = "{tmp_path}/secret"\n')
        monkeypatch.setattr(sys, "argv", ["deploy", "worker", str(tmp_path / "worker.toml")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 143
    assert put_away == ["record"] and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("command", ["worker", "door"])
def test_what_serves_begins_with_a_configuration_that_only_its_owner_writes(command, monkeypatch, capsys, tmp_path):
    config = tmp_path / "worker.toml"
    config.write_text(f'spool = "{tmp_path}/spool"\n')
    config.chmod(0o666)
    monkeypatch.setattr(sys, "argv", ["deploy", command, str(config)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    shown = capsys.readouterr().err
    assert stopped.value.code == 2 and f"chmod go-w {config}" in shown and shown.count("\n") == 1
    assert not (tmp_path / "spool").exists()


def test_the_page_begins_with_a_program_that_only_its_owner_writes(monkeypatch, capsys):
    def refuse():
        raise UserError("others may write it")

    monkeypatch.setattr("deploy.trust.check_trusted", refuse)
    monkeypatch.setattr(sys, "argv", ["deploy", "page"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and capsys.readouterr().err == "others may write it\n"
