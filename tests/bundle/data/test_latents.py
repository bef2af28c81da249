"""Latents that are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scripts.data.datalist import DatalistError, pairs
from scripts.data.latents import LatentDataset
from scripts.data.transforms import preprocessing
from scripts.errors import UserError
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from tests.bundle.conftest import MakeWorkflow


class Counting(nn.Module):
    """A real autoencoder that counts the crops it encodes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = StableDiffusionAutoencoder(channels=(8, 8, 16), num_res_blocks=1, norm_num_groups=4)
        self.network.latent_scale.fill_(2.5)
        self.count = 0

    def latent_size(self, image_size: int) -> int:
        return self.network.latent_size(image_size)

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        self.count += len(x)
        return self.network.encode_stage_2_inputs(x)


@torch.no_grad()
def test_latents_are_those_of_the_preprocessed_crops_encoded_once(tiny_dataset: Path) -> None:
    items, angles = pairs(tiny_dataset, "validation"), (0, 45, 180)
    autoencoder = Counting()
    dataset = LatentDataset(items, ["baseline", "follow_up"], autoencoder, 32, angles, batch_size=4)
    assert autoencoder.count == 0 and len(dataset) == 3
    torch.manual_seed(0)
    drawn: set[int] = set()
    for index in [0, 1, 2] * 12:
        item = dataset[index]
        expected = {
            angle: {
                key: autoencoder.network.encode_stage_2_inputs(image.as_tensor()[None])[0]
                for key, image in preprocessing(["baseline", "follow_up"], 32, (angle,))(items[index]).items()
                if key in ("baseline", "follow_up")
            }
            for angle in angles
        }
        matches = [a for a in angles if torch.allclose(item["baseline"], expected[a]["baseline"], atol=1e-5)]
        assert len(matches) == 1
        torch.testing.assert_close(item["follow_up"], expected[matches[0]]["follow_up"], atol=1e-5, rtol=0)
        assert item["report"] == items[index]["report"] and item["follow_up"].shape == (4, 8, 8)
        drawn.update(matches)
    assert drawn == set(angles)
    assert autoencoder.count == 2 * 3 * 3


def test_latents_without_rotation_draw_no_random_numbers(tiny_dataset: Path) -> None:
    dataset = LatentDataset(pairs(tiny_dataset, "validation"), ["baseline"], Counting(), 32)
    state = torch.get_rng_state()
    assert torch.equal(dataset[1]["baseline"], dataset[1]["baseline"])
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_sampled_latents_are_drawn_anew_from_their_distribution(tiny_dataset: Path) -> None:
    items, autoencoder = pairs(tiny_dataset, "validation"), Counting().network
    dataset = LatentDataset(items, ["baseline"], autoencoder, 32, batch_size=2, sampled=True)
    image = preprocessing(["baseline"], 32)(items[1])["baseline"].as_tensor()[None]
    mean, std = (2.5 * moment[0] for moment in autoencoder.encode(image))
    torch.manual_seed(0)
    drawn = torch.stack([dataset[1]["baseline"] for _ in range(1000)])
    assert ((drawn.mean(dim=0) - mean).abs() < 5 * std / len(drawn) ** 0.5).all()
    torch.testing.assert_close(drawn.std(dim=0), std, rtol=0.2, atol=0)


@pytest.mark.parametrize("size", [0, 2, 30, -4])
def test_a_size_that_the_autoencoder_cannot_halve_is_refused_before_any_encoding(tiny_dataset: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"image_size is {size}, expected a multiple of 4"):
        LatentDataset(pairs(tiny_dataset, "validation"), ["baseline"], Counting(), size)


def test_crops_smaller_than_the_size_are_refused_by_name(tiny_dataset: Path) -> None:
    autoencoder = Counting()
    dataset = LatentDataset(pairs(tiny_dataset, "validation"), ["baseline"], autoencoder, 132)
    with pytest.raises(DatalistError, match=r"6_t0\.nii\.gz: has 128 x 128 px"):
        dataset[0]
    assert autoencoder.count == 0


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("unconditional", {"rotations": [0, 90]}),
        ("conditional", {"rotations": [0, 90]}),
        ("conditional", {"rotations": [0], "report_interval": False}),
    ],
)
def test_a_stage_learns_from_turned_crops_and_from_reports_as_asked(
    make_workflow: MakeWorkflow, trained: Path, tmp_path: Path, stage: str, options: dict[str, Any]
) -> None:
    """Validation turns nothing, and reads reports like those of training."""
    models = str(trained / "models")
    value = make_workflow(f"train_{stage}", tmp_path, "small", models_dir=models, **options).parser.get_parsed_content
    train, validate = value("train::dataset"), value("validate::dataset")
    assert (train.rotations, validate.rotations) == (tuple(options["rotations"]), (0,))
    if stage == "conditional":
        told = ["Follow-up after" in item["report"] for part in (train, validate) for item in part.data]
        assert told == [options.get("report_interval", True)] * 9
