"""The self-test finds what is wrong with an installation, and nothing where all is well."""

from __future__ import annotations

import copy
import socket

import pytest

from deploy import self_test
from deploy.self_test import EXPECTED, SelfTestError, differences
from scripts.files import read_mapping


@pytest.fixture(scope="module")
def lines():
    """All checks of this checkout, as they are shown."""
    shown: list[str] = []
    good = self_test.self_test(shown.append)
    return good, shown


def test_this_installation_passes(lines):
    good, shown = lines
    assert good, "\n".join(shown)
    names = ["python", "packages", "program", "weights", "result", "objects", "network"]
    assert [line.split(": ")[0] for line in shown] == [f"ok    {name}" for name in names]
    assert "6 written, each marked as synthetic" in shown[5]


@pytest.fixture
def answers():
    return read_mapping(EXPECTED)["answers"]


def test_rounding_is_no_difference(answers):
    found = copy.deepcopy(answers)
    found["samples_sha256"] = "0" * 64
    found["mean_hu"][0][0] += 1.0
    found["probabilities"] = {name: chance + 0.003 for name, chance in answers["probabilities"].items()}
    assert differences(answers, found) == []


@pytest.mark.parametrize("value", [40.0, float("nan")])
def test_other_results_are(answers, value):
    found = copy.deepcopy(answers)
    found["crop_sha256"], found["change_mm"] = "0" * 64, answers["change_mm"] + value
    found["mean_hu"][3][4] += value
    found["probabilities"].pop("generated")
    wrong = differences(answers, found)
    assert len(wrong) == 4 and "crop" in wrong[0] and "HU" in wrong[1] and "generated: None" in wrong[2]


def test_a_package_of_another_version_fails(monkeypatch, tmp_path):
    (tmp_path / "requirements.lock").write_text("# a lock\nnumpy==0.1\nno-such-package==1\n")
    monkeypatch.setattr(self_test.trust, "ROOT", tmp_path)
    with pytest.raises(SelfTestError, match=r"2 of 2 .*numpy .*expected 0.1.*no-such-package absent"):
        self_test._packages()


def test_other_weights_fail(monkeypatch):
    monkeypatch.setattr(self_test, "weights", lambda: {"autoencoder": "0" * 64})
    with pytest.raises(SelfTestError, match="autoencoder"):
        self_test._weights()


def test_objects_without_the_mark_fail(tmp_path):
    self_test.draw_series(tmp_path / "series")
    with pytest.raises(SelfTestError, match="not marked as synthetic"):
        self_test._objects(tmp_path / "series")
    with pytest.raises(SelfTestError, match="no DICOM object"):
        self_test._objects(tmp_path)


def test_whoever_asks_for_a_network_is_noticed():
    asked = self_test._watch_network()
    with pytest.raises(OSError), socket.socket() as closed:
        closed.connect(("127.0.0.1", 9))
    with pytest.raises(SelfTestError, match="127.0.0.1"):
        self_test._network(asked)


def test_what_fails_is_one_line_and_the_others_go_on(monkeypatch):
    def fail(*_):
        raise RuntimeError("two\nlines " + "x" * 9999)

    for check in ("_packages", "_result"):
        monkeypatch.setattr(self_test, check, fail)
    shown: list[str] = []
    assert not self_test.self_test(shown.append)
    assert len(shown) == 7 and all("\n" not in line and len(line) < 600 for line in shown)
    assert [line[:4] for line in shown] == ["ok  ", "FAIL", "ok  ", "ok  ", "FAIL", "FAIL", "ok  "]
