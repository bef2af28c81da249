"""What reconstructions lack: measured on noise of a known spectrum, given back, and stored with the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import welch

from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.texture import STEPS, coloured, lost_power, power
from scripts.weights.checkpoints import load_network, save_network


@pytest.fixture
def white() -> torch.Tensor:
    return 0.3 * torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_power_of_white_noise_is_its_variance(white: torch.Tensor) -> None:
    assert power(white) == pytest.approx(0.09, rel=0.2) and power(white)[1:-1] == pytest.approx(0.09, rel=0.05)
    assert power(white[..., :48])[1:-1] == pytest.approx(0.09, rel=0.07), "crops need not be square"
    assert len(power(white)) == len(power(white[..., :16, :16])) == round(STEPS * 0.5**0.5) + 1, "small ones are filled"


def test_what_is_lost_is_what_was_filtered_and_no_more(white: torch.Tensor) -> None:
    """A filter that passes 0.2 cycle a pixel and less; half as much of the rest would still be a texture."""
    frequency = torch.hypot(*(torch.fft.fftfreq(64)[index] for index in ((slice(None), None), (None, slice(None)))))
    passed = torch.fft.ifft2(torch.fft.fft2(white) * (frequency < 0.2)).real
    lost = np.array(lost_power(white, passed))
    steps = np.arange(len(lost)) / STEPS
    assert not lost[steps < 0.17].any() and lost[steps > 0.25] == pytest.approx(0.09, rel=0.2)
    assert not any(lost_power(white, 0.8 * white)), "64 % is kept"
    assert any(lost_power(white, 0.6 * white)), "36 % is"


def test_coloured_noise_has_the_spectrum_asked_for(white: torch.Tensor) -> None:
    """Along one axis, by scipy: the power is averaged over the other, so that it is that of the whole spectrum."""
    spectrum = np.where(np.arange(24) < 8, 0.0, 4.0).tolist()
    made = coloured(white / 0.3, spectrum)
    assert power(made)[10:] == pytest.approx(4.0, rel=0.2) and power(made)[:6] == pytest.approx(0.0, abs=0.05)
    rows = made[:, 0].numpy().reshape(-1, 64)
    frequency, density = welch(rows, nperseg=64, window="hann", detrend=False)
    share = 1 - 2 * np.sqrt(np.maximum((7.5 / STEPS) ** 2 - frequency**2, 0))  # of the other axis's frequencies
    expected = 2 * 4.0 * share
    assert density.mean(axis=0)[2:-1] == pytest.approx(expected[2:-1], rel=0.1)


def test_it_is_stored_with_the_weights(tmp_path) -> None:
    autoencoder = StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4)
    assert "texture" not in autoencoder.config
    autoencoder.config["texture"] = [0.0, 0.5]
    again = load_network(save_network(autoencoder, tmp_path / "autoencoder.safetensors"))
    assert again.config == autoencoder.config
