"""A section that cannot be evaluated is refused before any work, and what will be missing is said before it too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.evaluation.requirements import check_section, foreseen
from scripts.evaluation.study import Cases
from tests.bundle.helpers import refusal

Make = Callable[[Callable[[dict[str, Any]], Any]], Path]


@pytest.fixture
def changed(tiny_dataset: Path, tmp_path: Path) -> Make:
    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        folder = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
        datalist = json.loads((folder / "datalist.json").read_text())
        change(datalist)
        (folder / "datalist.json").write_text(json.dumps(datalist))
        return folder

    return make


def test_a_test_section_alone_passes_and_what_lacks_is_said(changed: Make, caplog: pytest.LogCaptureFixture) -> None:
    dataset = changed(lambda datalist: datalist.update(training=[], validation=[], unpaired=[]))
    with caplog.at_level("INFO"):
        found = check_section(dataset, "test")
    assert [each.split(",")[0] for each in found] == [
        "some scores of outcomes",
        "the diameter read from latents",
        "thresholds of its own",
    ]
    assert caplog.messages == [f"Evaluation of the test section leaves out: {'; '.join(found)}."]


def test_sections_that_are_not_evaluated_pass(tiny_dataset: Path) -> None:
    assert check_section(tiny_dataset, "unpaired") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda datalist: datalist.update(test=[]), ": its test section is empty; name another with --section."),
        (
            lambda datalist: datalist["test"][0].update(malignant=2),
            "datalist.json: test: malignant must be 0, 1 or null",
        ),
        (lambda datalist: datalist["test"][1].update(case_id="patient-9_n1"), "patient-9_n1 occur more than once"),
        (lambda datalist: datalist["test"][1].update(follow_up="gone.nii.gz"), "gone.nii.gz: no such file; expected"),
    ],
)
def test_what_evaluation_cannot_take_is_refused(changed: Make, change: Callable[[Any], Any], said: str) -> None:
    assert said in refusal(lambda: check_section(changed(change), "test"))


def cases(*outcomes: int | None, patients: int = 99, **ehr: Any) -> Cases:
    return Cases.of(
        [
            {"case_id": str(index), "patient_id": str(index % patients), "malignant": outcome, "ehr": ehr}
            for index, outcome in enumerate(outcomes)
        ]
    )


def test_what_is_foreseen() -> None:
    known = {"sct_long_dia": 8}
    assert foreseen(cases(*[0, 1] * 10, **known), set()) == []
    assert foreseen(cases(*[0, 1] * 9, **known), set()) == [
        "some scores of outcomes, for fewer than 10 patients have a malignant, or a benign, case (9)"
    ]
    assert foreseen(cases(0, 0, **known), set()) == [
        "all scores of outcomes, for all cases with a known outcome are benign"
    ]
    assert foreseen(cases(None, None, patients=1), set()) == [
        "all scores of outcomes, for no case has a known outcome",
        "intervals, FID and KID, for there is one patient",
        "growth against the record, for no diameter is recorded",
    ]
