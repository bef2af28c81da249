"""The same case, the same key; anything that the result follows from, another one."""

import os
import shutil
from pathlib import Path

import pytest

from data_prep import BUNDLE
from deploy.dicom_out.keys import case_key, read_secret
from scripts.errors import UserError

CASE = {
    "secret": b"of a site, sixteen bytes",
    "models_dir": BUNDLE / "models",
    "identifiers": {"PatientID": "MRN-4711", "SeriesInstanceUID": "1.2.3"},
    "point": (1.0, 2.0, 3.0),
    "record": {"age": 61.0, "gender": 2},
    "interval_days": 365,
    "settings": {"num_runs": 20},
}


def test_what_is_not_said_is_the_configurations():
    assert case_key(**CASE) == case_key(**{**CASE, "settings": {"solver": "ddim"}})
    assert case_key(**CASE) == case_key(**{**CASE, "record": {"gender": 2.0, "age": 61}, "interval_days": 365.0})


@pytest.mark.parametrize(
    "changed",
    [
        {"secret": b"of another, sixteen bytes"},
        {"identifiers": {"PatientID": "MRN-4711", "SeriesInstanceUID": "1.2.4"}},
        {"identifiers": {"PatientID": "MRN-4712", "SeriesInstanceUID": "1.2.3"}},
        {"point": (1.0, 2.0, 3.5)},
        {"record": {"age": 62.0, "gender": 2}},
        {"record": {"age": 61.0}},
        {"interval_days": 180},
        {"settings": {"num_runs": 19}},
        {"settings": {"seed": 24}},
    ],
)
def test_what_changes_a_result_changes_its_key(changed):
    assert case_key(**CASE) != case_key(**{**CASE, **changed})


def test_other_weights(tmp_path):
    """The record alone gives a probability too, so that its file counts."""
    models = tmp_path / "models"
    shutil.copytree(BUNDLE / "models", models)
    assert case_key(**{**CASE, "models_dir": models}) == case_key(**CASE)
    (models / "record_only.json").write_bytes((models / "record_only.json").read_bytes() + b"\n")
    assert case_key(**{**CASE, "models_dir": models}) != case_key(**CASE)


def test_a_secret_is_made_once_and_its_owners_alone(tmp_path, monkeypatch):
    """And it is on disk before it has its name."""
    path, synced = tmp_path / "namd" / "secret", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, path.exists())))
    first = read_secret(path)
    assert synced == [(64, False)]
    assert len(first) == 64 and read_secret(path) == first and path.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_the_usual_place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_secret() == Path(tmp_path / ".config" / "namd" / "secret").read_bytes()


@pytest.mark.parametrize(("content", "mode", "words"), [("short", 0o600, "16 or more"), ("x" * 20, 0o644, "chmod 600")])
def test_what_is_no_secret_is_refused(tmp_path, content, mode, words):
    path = tmp_path / "secret"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UserError, match=words) as caught:
        read_secret(path)
    assert content not in str(caught.value)
