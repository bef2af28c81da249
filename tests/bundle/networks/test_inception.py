"""Features for the Fréchet distance, offline and with Inception's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.evaluation.statistics.metrics import frechet_distance
from scripts.networks import inception as module
from scripts.networks.inception import INCEPTION, FeatureExtractor
from scripts.networks.perceptual import PerceptualDistance


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def images(noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.randn(12, 1, 8, 8, generator=generator), 64, mode="bilinear")
    return (0.4 * smooth + noise * torch.randn(12, 1, 64, 64, generator=generator)).clamp(-1, 1)


def test_fallback_features_tell_distortion_and_say_what_they_are():
    features = FeatureExtractor()
    assert "not comparable to published FID" in features.name
    extracted = [features(images(noise)).numpy() for noise in (0.0, 0.1, 0.3)]
    assert extracted[0].shape == (12, 256) and np.isfinite(extracted[0]).all()
    distances = [frechet_distance(each, extracted[0]) for each in extracted]
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[0] < distances[1] < distances[2]


def test_strict_refuses_the_fallback(monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "no-such-folder")
    with pytest.raises(UserError, match=f"{INCEPTION} is not in no-such-folder.checkpoints, or torch-fidelity"):
        FeatureExtractor(strict=True)


def test_fallback_shares_the_network_of_the_distance():
    distance = PerceptualDistance("alex")
    assert FeatureExtractor(fallback=distance).fallback is distance


def test_inception_reads_whole_greys_of_three_equal_channels(tmp_path, monkeypatch):
    """Eight bits from black to white, rounded; what lies beyond is clipped. No package is needed."""
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return (x.double().mean(dim=(2, 3)), "logits")

    monkeypatch.setattr(module, "_find_inception", lambda weights: tmp_path / weights)
    monkeypatch.setattr(module, "_inception", lambda path: Recorder() if path == tmp_path / "w.pth" else None)
    features = FeatureExtractor("w.pth", strict=True)
    assert "published FID weights" in features.name and features.fallback is None
    row = torch.tensor([-1.0, 0.0, 1.0, -3.0, 3.0, -0.9, 0.9])
    found = features(torch.stack([row, -row])[:, None, None])
    expected = torch.tensor([[0, 128, 255, 0, 255, 13, 242], [255, 128, 0, 255, 0, 242, 13]], dtype=torch.uint8)
    (read,) = seen
    assert read.dtype == torch.uint8 and torch.equal(read, expected[:, None, None].expand(2, 3, 1, 7))
    assert torch.equal(found, expected.double().mean(dim=1)[:, None].expand(2, 3))


def test_inception_by_path(tmp_path):
    """Random weights: shape, name and range of the input are tested, not the numbers of the published network."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network = inception.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_: None)
        torch.save(network("inception-v3-compat", ["2048"]).state_dict(), tmp_path / INCEPTION)
    features = FeatureExtractor(weights=tmp_path / INCEPTION)
    assert "published FID weights" in features.name
    assert features(images(0.1)[:2]).shape == (2, 2048)


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="absent.pth does not exist; expected the FID Inception weights"):
        FeatureExtractor(weights=tmp_path / "absent.pth")
