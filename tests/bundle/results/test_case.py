"""The content of result.json: what is documented is there, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.data.datalist import inference_items
from scripts.data.transforms import MARK, baseline_crops
from scripts.evaluation.nodules.growth import measure
from scripts.fingerprint import leaves
from scripts.results import case as case_module
from scripts.results.case import Results, encoder, ranked
from scripts.results.flags import Case
from scripts.results.probabilities import Readers
from scripts.results.reference import METHODS, Reference, open_reference, pooled
from scripts.weights.checkpoints import load_network
from scripts.weights.parts import digest_parts
from tests.bundle.helpers import BUNDLE
from tests.bundle.results.conftest import RUNS, SIZE


def test_a_result_says_what_it_is(written: Path, cohort: Path) -> None:
    result = json.loads((written / "c160" / "result.json").read_text())
    case = json.loads((cohort / "datalist.json").read_text())["test"][0]
    assert (result["case_id"], result["interval_days"], result["num_runs"]) == ("c160", case["interval_days"], RUNS)
    assert result["synthetic"] == MARK and "not for clinical decisions" in result["warning"]
    assert result["held_out_cases"]["simulated"] == "all of it" and result["lacking"] == []
    assert [each["method"] for each in result["methods"]][-1] == "brock"
    assert result["best_method"] == result["methods"][0]["method"]
    auroc = result["held_out_cases"]["compared"]["auroc"]
    order = [auroc[each["method"]] for each in result["methods"][:-1]]
    assert order == sorted(order, reverse=True) and len(order) == 4
    assert "patient_id" not in json.dumps(result) and case["patient_id"] not in json.dumps(result)


def test_probabilities_are_calibrated(written: Path, published: Path) -> None:
    reference = open_reference(published, {"weights": digest_parts(published), "guidance_scale": 6.0})
    for each in json.loads((written / "c161" / "result.json").read_text())["methods"][:-1]:
        expected = reference.calibrated(each["method"], each["uncalibrated"])
        assert each["probability"] == (None if expected is None else pytest.approx(expected, rel=1e-3))
        assert each["held_out"] == reference.held_out(each["method"])


def test_what_cannot_be_computed_stands_last_whatever_its_rank() -> None:
    reference = Reference({"compared": {"auroc": {"record_only": 0.9, "baseline": 0.6}}})
    said = {name: {"uncalibrated": 0.5} for name in METHODS} | {"record_only": {"not_computable": "no record"}}
    found = [each["method"] for each in ranked(said, reference)]
    assert (found[0], found[-1]) == ("baseline", "record_only")


def test_every_key_is_documented(written: Path) -> None:
    """The table in evaluation.md names each key, and no other."""
    text = (BUNDLE / "docs" / "evaluation.md").read_text()
    _, table = text.split("## Keys of `result.json`")
    rows = re.findall(r"^\| `.+$", table.split("\n## ")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\S+?)`", row)}
    found = set()
    for case_id in ("c160", "c161"):
        for name, _ in leaves(json.loads((written / case_id / "result.json").read_text())):
            found |= {part for part in name.split("::") if not part.isdigit()}
    optional = {"not_measurable", "reason", "at_most"}
    assert found - set(METHODS) - documented == set() and documented - found - set(METHODS) - optional == set()


@pytest.mark.parametrize("index", [0, 1])
def test_what_is_said_of_a_case_is_of_its_own_files(index: int, written: Path, cohort: Path, published: Path) -> None:
    """Of each of two that were read together, as of that case alone."""
    item = inference_items(cohort, "test", image_size=SIZE)[index]
    result = json.loads((written / item["case_id"] / "result.json").read_text())
    hu, baseline = own_files(index, written, cohort)
    samples, crop = ((each + 300) / 700 for each in (hu[:, None, None], baseline[None, None]))
    (said,) = Readers(published, SIZE).probabilities(samples, crop, [item["ehr"]])
    assert len(result["methods"]) == len(said) == 5
    for each in result["methods"]:
        found, expected = each.get("uncalibrated"), said[each["method"]].get("uncalibrated")
        assert found == (None if expected is None else pytest.approx(expected, rel=3e-5)), each["method"]
    before, after = measure(crop[None], np.ones((1, 2))), measure(samples, np.ones((1, 2)))
    for axis in ("long", "perpendicular", "mean"):
        own, runs = getattr(before, axis)[0, 0], getattr(after, axis)[:, 0]
        assert result["growth"]["baseline_mm"][axis] == pytest.approx(own, rel=1e-4)
        assert result["growth"]["change_mm"][axis]["median"] == pytest.approx(np.median(runs - own), abs=1e-4)


def own_files(index: int, written: Path, cohort: Path) -> tuple[np.ndarray, np.ndarray]:
    """The generated runs (R, H, W) and the baseline (H, W) of a case of the test section, in HU within the window."""
    runs = nib.load(written / f"c{160 + index}" / "samples.nii.gz").get_fdata()[:, :, 0]
    baseline = nib.load(cohort / f"{160 + index}_0.nii").get_fdata()[..., 0]
    return np.moveaxis(runs, -1, 0).clip(-1000, 400), baseline.clip(-1000, 400)


def test_flags_are_raised_by_a_cases_own_images(written: Path, cohort: Path, published: Path) -> None:
    """The change in HU, the crop and its latent, by the files."""
    made_by = json.loads((written / "c160" / "provenance.json").read_text())
    seen = _cases_of_flags(published, made_by, cohort, written)
    assert len(seen) == 2
    for index, case in enumerate(seen):
        hu, baseline = own_files(index, written, cohort)
        assert case.change_hu == pytest.approx(np.median(np.abs(hu - baseline).mean(axis=(1, 2))), rel=1e-3)
        np.testing.assert_allclose(case.crop, (baseline + 300) / 700, atol=1e-5)
        assert case.latent is not None
        np.testing.assert_allclose(case.latent, pooled(encoder(published, "cpu")(case.crop[None, None]))[0], atol=1e-5)


def _cases_of_flags(published: Path, made_by: dict[str, Any], cohort: Path, written: Path) -> list[Case]:
    """What the flags of the test section's cases are made from."""
    seen: list[Case] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case_module, "flags", lambda case, *_: seen.append(case) or [])
        list(Results(published, made_by).of(inference_items(cohort, "test", image_size=SIZE), written))
    return seen


def test_latents_are_the_autoencoders(published: Path, cohort: Path) -> None:
    crops = baseline_crops(cohort, "test", SIZE)
    network = load_network(published / "autoencoder.safetensors", "LatentAutoencoder")
    with torch.no_grad():
        expected = network.encode_stage_2_inputs(torch.from_numpy(crops)).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(encoder(published, "cpu")(crops), expected, atol=1e-5)
