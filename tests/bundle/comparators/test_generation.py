"""One inferer for all methods, and follow-ups of a compared method on disk, judged as NAMD's are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.comparators.copy import CopyBaseline
from scripts.comparators.generation import MethodInferer, generation_record, generation_settings, method_settings
from scripts.comparators.generator import WEIGHTS, load_generator
from scripts.comparators.imageflownet import ImageFlowNet
from scripts.comparators.mcwgan import McWGAN
from scripts.comparators.namd import NAMD
from scripts.data.transforms import from_hu, preprocessing
from scripts.diffusion.noise import Draw
from scripts.diffusion.sampler import ProgressionInferer
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.evaluation.record import evaluation_record
from scripts.fingerprint import differences
from scripts.predictions import read_provenance
from scripts.weights.checkpoints import save_network
from tests.bundle.comparators.toy import discs
from tests.bundle.diffusion.helpers import crops, toy
from tests.bundle.helpers import refusal

Make = Callable[..., Any]


class Noisy(CopyBaseline):
    """The baseline with noise, and what it was called with."""

    stochastic = True

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        self.calls.append([each.record["age"] for each in condition])
        ages = torch.tensor([each.record["age"] for each in condition])[:, None, None, None] / 100
        return (0.5 * baseline + ages + 0.01 * draw(baseline.shape[1:])).clamp(-1, 1)


KNOWN = [Condition({"age": 10.0}), Condition({"age": 20.0}), Condition({"age": 30.0})]


@pytest.mark.parametrize("batch_size", [256, 7, 1])
def test_runs_are_the_same_in_any_batches(batch_size: int) -> None:
    baseline = discs(3).baseline
    made = MethodInferer(5, seed=3, batch_size=batch_size)(baseline, Noisy(), KNOWN)
    assert made.shape == (3, 5, 16, 16) and len(torch.unique(made[:, :, 0, 0])) == 15
    torch.testing.assert_close(made, MethodInferer(5, seed=3)(baseline, Noisy(), KNOWN), rtol=0, atol=0)
    alone = MethodInferer(2, seed=3)(baseline[1:2], Noisy(), KNOWN[1:2])
    assert torch.equal(alone[0], made[1, :2])
    assert not torch.equal(MethodInferer(5, seed=4)(baseline, Noisy(), KNOWN), made)


def test_cases_are_put_together_up_to_the_batch_size() -> None:
    method = Noisy()
    MethodInferer(5, batch_size=7)(discs(3).baseline, method, KNOWN)
    assert method.calls == [[10, 10, 20, 20, 30, 30]] * 2 + [[10, 20, 30]]


def test_a_method_without_noise_makes_one_run() -> None:
    baseline = discs(3).baseline
    assert torch.equal(MethodInferer(20)(baseline, CopyBaseline(), KNOWN), baseline)


def test_namd_by_this_door_is_namd() -> None:
    baseline, conditions = crops(2, 8), [Condition({"age": 60}, 365), Condition({"sct_long_dia": 12.0}, None)]
    made = MethodInferer(3, seed=23)(baseline, NAMD(toy(), num_steps=4, guidance_scale=2.0), conditions)
    reports = [radiology_report(*each) for each in conditions]
    theirs = ProgressionInferer(num_steps=4, num_runs=3, guidance_scale=2.0, seed=23)(baseline, toy(), reports)
    torch.testing.assert_close(made, theirs, atol=1e-6, rtol=0)


def test_what_is_not_finite_is_refused() -> None:
    class Broken(CopyBaseline):
        def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
            return baseline / 0.0

    baseline = discs(3).baseline
    with pytest.raises(UserError, match="weights are damaged"):
        MethodInferer()(torch.zeros_like(baseline), Broken(), KNOWN)
    with pytest.raises(UserError, match="NaN or infinite"):
        MethodInferer()(baseline / 0.0, CopyBaseline(), KNOWN)
    with pytest.raises(UserError, match="num_runs is 0"):
        MethodInferer(0)


# --- the overlay


@pytest.fixture(scope="module")
def generated(make_workflow: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of McWGAN, untrained."""
    folder = tmp_path_factory.mktemp("mcwgan")
    torch.manual_seed(0)
    save_network(McWGAN((4, 8)), folder / "models" / WEIGHTS, {"sampling": {"image_size": 32, "pixel_mm": None}})
    generate(make_workflow, folder)
    return folder


def generate(make_workflow: Make, folder: Path, **options: Any) -> Any:
    own = {"image_size": None, "num_steps": None, "num_runs": 4}
    workflow = make_workflow("inference", folder, "small", "compare_generate", **{**own, **options})
    workflow.run()
    return workflow


def test_predictions_are_the_methods(generated: Path, tiny_dataset: Path) -> None:
    method = load_generator(generated / "models")
    for case in json.loads((tiny_dataset / "datalist.json").read_text())["test"]:
        crop = preprocessing(["image"], 32)({"image": str(tiny_dataset / case["baseline"])})["image"][None]
        with torch.no_grad():
            expected = method(crop)[0, 0]
        samples = nib.load(generated / "predictions" / case["case_id"] / "samples.nii.gz")
        assert samples.shape == (32, 32, 1, 1), "one run, since it draws no noise"
        np.testing.assert_allclose(from_hu(samples.get_fdata()[:, :, 0, 0]), expected, atol=1.01 / 700)
        assert samples.header["descrip"].item() == b"SYNTHETIC follow-up by McWGAN (reconstructed), research use only"
        assert not (generated / "predictions" / case["case_id"] / "result.json").exists(), "which is NAMD's"


def test_provenance_says_which_method_made_them(generated: Path, make_workflow: Make, tmp_path: Path) -> None:
    made = read_provenance(generated / "predictions", "patient-9_n1")
    assert made["method"] == "McWGAN (reconstructed)" and made["num_runs"] == 1 and made["seed"] is None
    assert made["weights"].keys() == {"generator"} and made["image_size"] == 32
    assert made["settings"].keys() == {"num_res_units", "parts"}
    again = generate(make_workflow, generated)
    assert len(again.dataset) == 0, "what is done is not done again"
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        save_network(McWGAN((4, 8)), tmp_path / name / WEIGHTS)
    records = [generation_record(tmp_path / name, load_generator(tmp_path / name), 20, 23) for name in ("one", "other")]
    assert records[0]["weights"] != records[1]["weights"]


def test_other_settings_of_the_same_weights_are_made_again(make_workflow: Make, tmp_path: Path) -> None:
    """The number of steps stands in the file's metadata, and not in the tensors that its digest is of."""
    torch.manual_seed(0)
    methods = [ImageFlowNet([4, 8], 1, 4, num_steps=steps) for steps in (2, 3)]
    methods[1].load_state_dict(methods[0].state_dict())
    for method in methods:
        save_network(method, tmp_path / "models" / WEIGHTS, {"sampling": {"image_size": 32}})
        made = generate(make_workflow, tmp_path, num_runs=1)
        assert len(made.dataset) > 0
    assert len(generate(make_workflow, tmp_path, num_runs=1).dataset) == 0
    one, other = (generation_record(tmp_path / "models", method, 1, 23) for method in methods)
    assert differences(one, other) == ["num_steps was 2, is 3"]


def test_settings_of_parts_count_but_not_where_a_language_model_lies() -> None:
    guided = {"num_steps": 50, "transformer": {"guidance": 1.0, "axes": [4, 14]}, "text": {"llm": "/here"}}
    made = method_settings(guided)
    assert made == method_settings(guided | {"text": {"llm": "/there"}})
    other = method_settings(guided | {"transformer": {"guidance": 3.5, "axes": [4, 14]}})
    assert made["num_steps"] == other["num_steps"] == 50 and made["parts"] != other["parts"]


def test_they_are_judged_beside_namd(generated: Path, trained: Path, tiny_dataset: Path, make_workflow: Make) -> None:
    """By the command that judges NAMD; here its check of what was made from what, which comes first."""
    folder = generated.parent / "namd"
    make_workflow("inference", folder, "small", models_dir=str(trained / "models")).run()
    others = {"McWGAN (reconstructed)": generated / "predictions"}
    record = evaluation_record(tiny_dataset, "test", trained / "models", folder / "predictions", others)
    assert record["predictions"]["McWGAN (reconstructed)"]["method"] == "McWGAN (reconstructed)"


def test_intervals_are_for_methods_that_read_them(generated: Path, make_workflow: Make, tmp_path: Path) -> None:
    """All of McWGAN's follow-ups would be the same; ImageFlowNet's differ."""
    assert "--intervals" in refusal(lambda: generate(make_workflow, generated, intervals=[182, 730]))
    torch.manual_seed(0)
    method = ImageFlowNet([4, 8], 1, 4, num_steps=2)
    save_network(method, tmp_path / "models" / WEIGHTS, {"sampling": {"image_size": 32}})
    generate(make_workflow, tmp_path, intervals=[182, 730], num_runs=2)
    made = sorted(path.parent.name for path in (tmp_path / "predictions").glob("*/samples.nii.gz"))
    assert len(made) == 6
    images = [nib.load(tmp_path / "predictions" / name / "samples.nii.gz").get_fdata() for name in made[:2]]
    assert not np.allclose(*images, atol=5.0)


def test_options_of_namd_are_refused(generated: Path) -> None:
    expected = {"image_size": 32, "pixel_mm": None, "report_interval": False}
    assert generation_settings(generated / "models") == expected
    said = refusal(lambda: generation_settings(generated / "models", num_steps=12, guidance_scale=None))
    assert "holds McWGAN, which has no --num_steps. Leave that out" in said
    said = refusal(lambda: generation_settings(generated / "models", image_size=64))
    assert "trained on crops of 32 px, but --image_size is 64" in said
