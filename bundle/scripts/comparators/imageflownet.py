"""ImageFlowNet with an SDE: a U-Net that reconstructs, whose features flow in time (ICASSP 2025, arXiv 2406.14794).

Written from the paper and from facts about its code, whose licence is non-commercial; none of it is copied. Ours [R]
are the batches of mixed intervals, which equal one case after the other, and MONAI's U-Net for guided-diffusion's: the
time embedding is always that of 0, so that the scale and shift by it are constants, as normalisations have their own.
Crops have NAMD's five turns (published: flips, shifts, scales, turns of 30 degrees, brightness and contrast) [R].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.networks.blocks import SABlock
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from scripts.comparators.batches import PairBatch, plain
from scripts.comparators.contract import Condition
from scripts.comparators.generator import Generator
from scripts.data.padding import without_padding
from scripts.diffusion.noise import CaseNoise, Draw
from scripts.errors import UserError
from scripts.losses import over_known
from scripts.training.metrics import validation_loss

LAST_TIME = 5.0
"""Of the flow, reached at the longest interval."""

YEAR = 365.0
"""Days to the follow-up where the interval is unknown [R]."""


def longest_interval(cases: Iterable[Mapping[str, Any]]) -> float:
    """The most days between baseline and follow-up of cases of the datalist; a year where none says."""
    return float(max((case.get("interval_days") or 0.0 for case in cases), default=0.0) or YEAR)


def initialise(module: nn.Module) -> None:
    """Convolutions by Kaiming's rule, linear layers by N(0, 1e-3); biases are 0 (base.py:26).

    Not attention: published layers are one-dimensional convolutions there, which this rule passes by, so that queries,
    keys and values begin as torch has them, and the output at zero (I2SB's guided_diffusion/unet.py:294, 302).
    """
    if isinstance(module, SABlock):  # after its layers, see torch's apply
        for each in (module.to_q, module.to_k, module.to_v):
            cast(nn.Linear, each).reset_parameters()
        for parameter in module.out_proj.parameters():
            nn.init.zeros_(parameter)
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=1e-3)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


class FeatureUNet(DiffusionModelUNet):
    """MONAI's U-Net in two halves: an image's features, one at the bottleneck and one for each skip, and back.

    Args:
        channels: width of each level; each has half the pixels of the one above.
        attention: number of levels that have attention, from the coarsest.
        norm_num_groups: of every group normalisation.
    """

    def __init__(self, channels: Sequence[int], attention: int, norm_num_groups: int) -> None:
        super().__init__(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            num_res_blocks=1,
            channels=tuple(channels),
            attention_levels=(False,) * (len(channels) - attention) + (True,) * attention,
            norm_num_groups=norm_num_groups,
            num_head_channels=min(16, channels[-1]),
            resblock_updown=True,
            use_flash_attention=True,
        )
        self.apply(initialise)  # also what MONAI begins at zero

    @property
    def widths(self) -> list[int]:
        """Channels of each feature, in the order of :meth:`features`."""
        first, *_, last = self.block_out_channels
        levels = [width for width in self.block_out_channels for _ in range(2)]  # a block, and halving it
        return [first, *levels[:-1], last]  # the last level is not halved

    def features(self, image: Tensor) -> list[Tensor]:
        """Features of images (B, 1, H, W): of the skips from fine to coarse, then of the bottleneck."""
        time = self._time(image)
        hidden = self.conv_in(image)
        skips = [hidden]
        for block in self.down_blocks:
            hidden, more = block(hidden_states=hidden, temb=time, context=None)
            skips += more
        return [*skips, self.middle_block(hidden_states=hidden, temb=time, context=None)]

    def image(self, features: Sequence[Tensor]) -> Tensor:
        """The image (B, 1, H, W) of :meth:`features`."""
        *skips, hidden = features
        time = self._time(hidden)
        for block in self.up_blocks:
            count = len(cast(Any, block).resnets)
            skips, here = skips[:-count], skips[-count:]
            hidden = block(hidden_states=hidden, res_hidden_states_list=here, temb=time, context=None)
        return self.out(hidden)

    def _time(self, like: Tensor) -> Tensor:
        """The embedding of time 0, (B, channels): its cosines are 1 and its sines 0."""
        width = self.block_out_channels[0]
        embedding = torch.cat([like.new_ones(width // 2), like.new_zeros(width - width // 2)])
        return self.time_embed(embedding.expand(len(like), -1))


class FeatureSDE(nn.Module):
    """One feature's flow, dz = f(z) dt + sigma dW: f is blind to time, and sigma one learnable number, at first 0.5.

    f is twice instance normalisation without affine, 3 x 3 convolution and ReLU. So it is never negative, and sees
    neither offset nor gain of its input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

        def block() -> list[nn.Module]:
            return [nn.InstanceNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]

        self.drift = nn.Sequential(*block(), *block())
        self.sigma = nn.Parameter(torch.tensor(0.5))
        self.drift.apply(initialise)

    def step(self, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Ito's sense, Euler's step: z after times (B,), given standard normal noise of its shape."""
        t = time[:, None, None, None]
        return z + t * self.drift(z) + t.sqrt() * self.sigma * noise


class ImageFlowNet(Generator):
    """The baseline's features, moved by their SDEs to the time of the follow-up, and decoded.

    The drift is autonomous, so that a batch of mixed intervals is integrated over s from 0 to 1, with drift t f and
    noise sqrt(t) sigma dW for a case at time t [R]. At time 0 nothing is moved: the reconstruction.

    Args:
        channels, attention, norm_num_groups: of :class:`FeatureUNet`.
        num_steps: of the integration; 100 are the published steps of 0.05 at the longest interval.
        longest_days: interval that is reached at :data:`LAST_TIME`.
        training_noise: highest standard deviation of the noise from which training reconstructs.
    """

    title = "ImageFlowNet SDE"
    reads = frozenset({"image", "interval"})
    stochastic = True
    predicting: Tensor

    def __init__(
        self,
        channels: Sequence[int] = (64, 64, 128, 128, 256, 256),
        attention: int = 3,
        norm_num_groups: int = 32,
        num_steps: int = 100,
        longest_days: float = YEAR,
        training_noise: float = 0.1,
    ) -> None:
        super().__init__()
        shape = {"channels": list(channels), "attention": attention, "norm_num_groups": norm_num_groups}
        self.config = {**shape, "num_steps": num_steps, "longest_days": longest_days, "training_noise": training_noise}
        self.network_calls = num_steps
        self.unet = FeatureUNet(channels, attention, norm_num_groups)
        self.flows = nn.ModuleList(FeatureSDE(width) for width in self.unet.widths)
        self.register_buffer("predicting", torch.tensor(False))

    def times(self, condition: Sequence[Condition]) -> Tensor:
        """Times (B,) of the follow-ups."""
        days = [YEAR if each.interval_days is None else each.interval_days for each in condition]
        return torch.tensor(days, dtype=torch.float32) * (LAST_TIME / self.config["longest_days"])

    def moved(self, features: Sequence[Tensor], times: Tensor, draw: Draw) -> list[Tensor]:
        """Features at the given times (B,)."""
        now, steps = list(features), self.config["num_steps"]
        if not times.any():
            return now
        part = times.to(now[0]) / steps
        for _ in range(steps):
            now = [
                cast(FeatureSDE, flow).step(z, part, draw(z.shape[1:]).to(z))
                for flow, z in zip(self.flows, now, strict=True)
            ]
        return now

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        features = self.moved(self.unet.features(baseline), self.times(condition), draw)
        return self.unet.image(features).clamp(-1.0, 1.0)

    def forward(self, crops: Tensor, condition: Sequence[Condition]) -> dict[str, Tensor]:
        """Training: ``reconstruction`` (B, 2, H, W) of baselines and follow-ups, and ``prediction`` (B, 1, H, W).

        Reconstructions and prediction are of the same noisy copies (train_2pt_all.py:287, 309). The prediction, which
        begins with :attr:`predicting`, trains the SDEs alone: in it the U-Net is frozen. In evaluation there is no such
        noise, and always a prediction.
        """
        images = crops.flatten(0, 1)[:, None]
        if self.training:
            level = self.config["training_noise"] * torch.rand(len(images), 1, 1, 1, device=images.device)
            images = images + level * torch.randn_like(images)
        made = {"reconstruction": self.unet.image(self.unet.features(images)).view_as(crops)}
        if self.training and not self.predicting:
            return made

        def draw(shape: Sequence[int]) -> Tensor:
            return torch.randn(len(crops), *shape, device=crops.device)

        baseline = images.view_as(crops)[:, :1]
        with torch.no_grad():
            features = self.unet.features(baseline)
        features = self.moved(features, self.times(condition), draw if self.training else CaseNoise(baseline, 0))
        with frozen(self.unet):
            return {**made, "prediction": self.unet.image(features)}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed inside gives the module's parameters no gradients; they pass through to its inputs."""
    parameters = [each for each in module.parameters() if each.requires_grad]
    for each in parameters:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in parameters:
            each.requires_grad_(True)


# --- training


class TwoTimesBatch(PairBatch):
    """The batch of :class:`ImageFlowNet`: crops (B, 2, H, W), and as target the same, NaN where padded."""

    def __call__(  # type: ignore[override]
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        baseline, target, _, named = super().__call__(batch, device, non_blocking, **kwargs)
        follow_up = plain(batch["follow_up"]).to(baseline)
        targets = without_padding(baseline, batch, "baseline"), target
        return torch.cat([baseline, follow_up], dim=1), torch.cat(targets, dim=1), (), named


class FlowLoss(nn.Module):
    """The mean squared errors of both reconstructions and, where there is one, of the prediction.

    Attributes:
        terms: the terms of the last call, detached, for logging.
    """

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, Tensor] = {}

    def forward(self, made: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """A scalar, of what :class:`ImageFlowNet` made of crops (B, 2, H, W), its target."""
        terms = {
            "baseline": over_known(F.mse_loss, made["reconstruction"][:, :1], target[:, :1]),
            "follow_up": over_known(F.mse_loss, made["reconstruction"][:, 1:], target[:, 1:]),
        }
        if "prediction" in made:
            terms["prediction"] = over_known(F.mse_loss, made["prediction"], target[:, 1:])
        self.terms = {name: term.detach() for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum()


def psnr(made: Tensor, target: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in dB, averaged over images and times (B, C, H, W) without what is padded.

    It is counted as the published 25 dB are (train_2pt_all.py:525-530, metrics.py:5): images in [-1, 1] are clipped and
    brought to [0, 1], but the peak stays 2. That is 10 log10(16 / mse) here, 6.02 dB more than with the range as peak.
    """
    error = (made.clamp(-1.0, 1.0) - target).square().nanmean(dim=(2, 3)).clamp(min=1e-10)
    return (10.0 * (math.log10(16.0) - error.log10())).nanmean()


def prediction_psnr(network: ImageFlowNet) -> Metric:
    """The prediction's PSNR less than nothing, over validation: of the epochs, the lowest is the best.

    It is infinite until predictions are trained, so that no epoch before is ever published.
    """

    def less(made: Mapping[str, Tensor], target: Tensor) -> Tensor:
        found = -psnr(made["prediction"], target[:, 1:])
        return found if network.predicting else torch.full_like(found, math.inf)

    return validation_loss(less)


def reconstruction_psnr() -> Metric:
    """The reconstructions' PSNR over validation."""
    return validation_loss(lambda made, target: psnr(made["reconstruction"], target))


def needs_validation(validator: Engine | None) -> None:
    """Refuses to train without validation, in which :class:`StartPredicting` looks when predictions are trained too.

    Raises:
        UserError: there is none.
    """
    if validator is None:
        raise UserError(
            "ImageFlowNet learns to predict once its reconstructions of the validation section are good enough, so it "
            "cannot be trained without one: leave no_validation.yaml out."
        )


class StartPredicting:
    """Ignite handler of validation: once the reconstructions reach a PSNR, predictions are trained too, for good.

    Args:
        network: the one that is trained.
        threshold: dB, as :func:`psnr` counts them.
        metric: name of :func:`reconstruction_psnr`.
    """

    def __init__(self, network: ImageFlowNet, threshold: float = 25.0, metric: str = "val_psnr") -> None:
        self.network = network
        self.threshold = threshold
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.metrics[self.metric] >= self.threshold:
            self.network.predicting.fill_(True)
