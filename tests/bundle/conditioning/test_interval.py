"""The interval as a number beside the text."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.interval import interval_days_of
from scripts.conditioning.language_models import ConditionerError
from scripts.conditioning.null import null_conditioner
from scripts.conditioning.settings import arguments_of, read_settings
from scripts.diffusion.settings import sampling_settings
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from tests.bundle.conftest import MakeWorkflow

DAYS = [91, 182, 365, 730, 1095]
MONTHS = [3, 6, 12, 24, 36]
TIMED = [radiology_report({"age": 60 + index}, days) for index, days in enumerate(DAYS)]


def timed(llm: Any, **arguments: Any) -> ReportConditioner:
    """A conditioner with the number, fitted."""
    conditioner = ReportConditioner(llm, interval_number=True, **arguments)
    conditioner.fit_statistics(TIMED)
    return conditioner


@pytest.mark.parametrize("standardise", [True, False])
def test_it_adds_one_vector_and_changes_no_other(llama: Any, standardise: bool) -> None:
    conditioner, plain = timed(llama, standardise=standardise), ReportConditioner(llama, standardise=standardise)
    plain.fit_statistics(TIMED)
    context = conditioner.encode(TIMED)
    assert context.shape == (5, 3, 16) and torch.equal(context[:, :2], plain.encode(TIMED))
    logarithms = torch.tensor([math.log(30.4375 * months) for months in MONTHS], dtype=torch.float64)
    expected = (logarithms - logarithms.mean()) / logarithms.std()
    torch.testing.assert_close(context[:, 2, 8:].double(), expected[:, None].expand(-1, 8), atol=1e-5, rtol=1e-5)
    assert bool((context[:, 2, :8] == 1).all())
    assert torch.allclose(conditioner(TIMED), context), "with gradients too"
    conditioner(TIMED)[:, :2].sum().backward()
    assert conditioner.prompts.grad is not None


def test_the_null_context_says_nothing_of_it(llama: Any, gemma_folder: Path) -> None:
    null = timed(llama).null_context(2)
    assert null.shape == (2, 3, 16) and not bool(null.any())
    arguments: dict[str, Any] = {"llm": str(gemma_folder), "standardise": False, "interval_number": True}
    null = ReportConditioner(**arguments).null_context(2)
    assert bool(null[:, :2].any()) and not bool(null[:, 2].any())
    assert torch.equal(null, null_conditioner(**arguments).null_context(2))


def test_it_travels_with_the_weights(gemma_folder: Path, tmp_path: Path) -> None:
    conditioner = timed(gemma_folder)
    folder = conditioner.save_pretrained(tmp_path / "conditioner")
    again = ReportConditioner(**arguments_of(folder, {}))
    again.load_pretrained(folder)
    assert torch.equal(again.encode(TIMED), conditioner.encode(TIMED))
    assert read_settings(again.save_pretrained(tmp_path / "again")) == read_settings(folder)
    with pytest.raises(UserError, match="interval_number is False, but was True"):
        arguments_of(folder, {"interval_number": False})
    with pytest.raises(ConditionerError, match="has a vector of the interval.*interval_number True"):
        ReportConditioner(gemma_folder).load_pretrained(folder)


def test_weights_without_it_are_as_before(gemma_folder: Path, tmp_path: Path) -> None:
    plain = ReportConditioner(gemma_folder)
    plain.fit_statistics(TIMED)
    folder = plain.save_pretrained(tmp_path / "plain")
    assert "interval_number" not in (folder / "settings.json").read_text()
    assert not any("interval" in name for name in plain.state_dict())
    with pytest.raises(ConditionerError, match="has no vector of the interval.*interval_number False"):
        timed(gemma_folder).load_pretrained(folder)


def test_what_cannot_be_told_is_refused(llama: Any) -> None:
    conditioner = ReportConditioner(llama, interval_number=True)
    with pytest.raises(ConditionerError, match="all training reports state the same interval"):
        conditioner.fit_statistics([radiology_report({"age": age}, 365) for age in (60, 61, 62)])
    with pytest.raises(ConditionerError, match="1 of 6 reports state no interval"):
        conditioner.fit_statistics([*TIMED, radiology_report({"age": 60})])
    with pytest.raises(ConditionerError, match="the training's intervals are unknown"):
        ReportConditioner(llama, interval_number=True, standardise=False).encode(TIMED)
    with pytest.raises(ConditionerError, match="1 of 1 reports state no interval"):
        timed(llama).encode(["CT shows a nodule."])


@pytest.mark.parametrize("days", [1, 30, 59, 60, 91, 365, 730, 1095])
def test_the_interval_is_read_as_exactly_as_the_record_writes_it(days: int) -> None:
    read = interval_days_of(radiology_report({"age": 62}, days))
    assert read is not None and abs(read - days) <= (0 if days < 60 else 30.4375 / 2)
    assert interval_days_of(radiology_report({"age": 62})) is None
    assert interval_days_of("Follow-up after 12 months. CT shows a nodule.") is None, "only where it ends the report"


def test_from_training_to_follow_ups_after_several_intervals(
    make_workflow: MakeWorkflow, trained: Path, tiny_dataset: Path, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Published with the weights, taken from there, and read: what is generated depends on the interval."""
    dataset = shutil.copytree(tiny_dataset, tmp_path / "dataset")
    datalist = json.loads((dataset / "datalist.json").read_text())
    for index, case in enumerate(datalist["training"] + datalist["validation"]):
        case["interval_days"] = DAYS[index % len(DAYS)]
    (dataset / "datalist.json").write_text(json.dumps(datalist))
    shutil.copytree(trained / "models", tmp_path / "models")
    arguments = {**tiny_settings["conditioner_arguments"], "interval_number": True}
    places: dict[str, Any] = {"dataset_dir": str(dataset)}
    make_workflow("train_conditional", tmp_path, "small", conditioner_arguments=arguments, **places).run()
    assert sampling_settings(tmp_path / "models")["conditioner_arguments"]["interval_number"] is True
    make_workflow("inference", tmp_path, "small", intervals=[182, 730], **places).run()
    case = datalist["test"][0]["case_id"]
    short, long = (
        np.asarray(nib.load(tmp_path / "predictions" / f"{case}_{days}d" / "samples.nii.gz").dataobj)  # type: ignore[attr-defined]
        for days in (182, 730)
    )
    assert short.shape == long.shape and not np.array_equal(short, long)
    assert (tmp_path / "predictions" / "courses" / f"{case}.json").is_file()
