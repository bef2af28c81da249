"""McWGAN, which its authors call GP-WGAN: a predictor and a critic of pairs (Cancers 2024, 16(12), 2229).

Rebuilt from its abstract [R]: known are the two networks, the Wasserstein loss and the four terms of the predictor's
loss (L1, SSIM, features of a ResNet-18 trained on nodules, adversarial); sizes, weights and optimiser are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.engines import AdversarialTrainer
from monai.losses import SSIMLoss
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from monai.utils import AdversarialKeys
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from scripts.comparators.contract import Condition
from scripts.comparators.generator import Generator
from scripts.diffusion.noise import Draw
from scripts.losses import over_known
from scripts.networks.classifiers import NoduleClassifier
from scripts.training.engines import refuse_accumulation


class McWGAN(Generator):
    """The predictor, baseline crop to follow-up: a residual U-Net with instance normalisation and tanh output [R].

    Behind the output's convolutions there is no normalisation, as in pix2pix (Isola et al. 2017): of one channel it
    would take away the crop's own level and contrast.

    Args:
        channels: width of each level; each has half the pixels of the one above.
        num_res_units: convolutions of each residual unit, at least one.
    """

    title = "McWGAN (reconstructed)"
    reads = frozenset({"image"})
    stochastic = False

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512), num_res_units: int = 1) -> None:
        super().__init__()
        self.config = {"channels": list(channels), "num_res_units": num_res_units}
        strides = (2,) * (len(channels) - 1)
        self.unet = UNet(2, 1, 1, list(channels), strides, num_res_units=num_res_units, norm="INSTANCE")
        layers: Any = self.unet.model
        layers[-1][0] = layers[-1][0].conv  # MONAI's has normalisation and activation behind it

    def forward(self, baseline: Tensor, condition: Sequence[Condition] | None = None) -> Tensor:
        """Follow-ups (B, 1, H, W) in [-1, 1] of baselines; the conditions are not read."""
        return torch.tanh(self.unet(baseline))

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        return self(baseline)


class PairCritic(nn.Sequential):
    """The critic: how real a follow-up looks beside its baseline, as one number [R].

    Four convolutions of stride 2 without normalisation, since one over the batch would tie its samples together and
    void the gradient penalty (Gulrajani et al. 2017, section 4), and a linear layer.

    Args:
        image_size: side of the crops in pixels, a multiple of 16.
        channels: width of each convolution.
    """

    def __init__(self, image_size: int = 64, channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        act = ("LEAKYRELU", {"negative_slope": 0.2})
        layers = [
            Convolution(2, before, after, strides=2, kernel_size=4, padding=1, act=act, norm=None)
            for before, after in zip([2, *channels], channels, strict=False)
        ]
        side = image_size // 2 ** len(channels)
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels[-1] * side**2, 1))

    def forward(self, baseline: Tensor, follow_up: Tensor) -> Tensor:  # type: ignore[override]
        """Numbers (B, 1), of pairs of crops (B, 1, H, W)."""
        return super().forward(torch.cat([baseline, follow_up], dim=1))


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], baseline: Tensor, real: Tensor, fake: Tensor, share: Tensor
) -> Tensor:
    """The mean of (\\|grad C\\| - 1)^2, the gradient with respect to the follow-up (Gulrajani et al. 2017, Eq. 3).

    Args:
        share: (B, 1, 1, 1) in [0, 1], of the real follow-up in the mix at which the gradient is taken.
    """
    mix = (share * real + (1.0 - share) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(baseline, mix).sum(), mix, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()


class ImageLoss(nn.Module):
    """The predictor's three terms that compare images: L1, 1 - SSIM, and distance of features. All vanish at equality.

    Args:
        reader: a classifier of nodules, frozen; the L1 distance of its features after pooling is the perceptual term.
            It must not be the judge of the evaluation, else the predictor learns to please its judge.
        l1_weight, ssim_weight, perceptual_weight: of the terms [R]; without a reader there is no perceptual term.

    Attributes:
        terms: the terms of the last call, unweighted and detached, for logging.
    """

    def __init__(
        self,
        reader: NoduleClassifier | None = None,
        l1_weight: float = 100.0,
        ssim_weight: float = 10.0,
        perceptual_weight: float = 10.0,
    ) -> None:
        super().__init__()
        self.reader = None if reader is None else reader.eval().requires_grad_(False)
        self.weights = {"l1": l1_weight, "ssim": ssim_weight, "perceptual": perceptual_weight}
        self.ssim = SSIMLoss(spatial_dims=2, data_range=2.0)
        self.terms: dict[str, Tensor] = {}

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """A scalar, of follow-ups (B, 1, H, W) in [-1, 1]; the target is NaN where it is padded."""
        terms = {"l1": over_known(F.l1_loss, prediction, target), "ssim": over_known(self.ssim, prediction, target)}
        if self.reader is not None:
            terms["perceptual"] = over_known(self._distance, prediction, target)
        self.terms = {name: term.detach() for name, term in terms.items()}
        return sum((self.weights[name] * term for name, term in terms.items()), torch.zeros(()).to(prediction))

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        assert self.reader is not None
        return F.l1_loss(self.reader.features(prediction), self.reader.features(target))


class WassersteinTrainer(AdversarialTrainer):
    """MONAI's trainer with a Wasserstein critic of pairs: every batch trains the critic, every n-th the predictor too.

    So the critic takes n steps, each on a new batch, for a step of the predictor; MONAI's own takes one step of each on
    the same batch. Where the follow-up is padded, the critic is shown the baseline in its place, of real and of fake
    ones alike: what is known of neither does not tell them apart. The loss that is logged is each batch's L1 distance.

    Args:
        critic_steps: n.
        penalty_weight: of :func:`gradient_penalty`.
        accumulation_steps: 1, since it steps on every batch.
        arguments: of MONAI's class; ``recon_loss_function`` is what the adversarial term is added to.

    Raises:
        UserError: more ``accumulation_steps`` than 1.
    """

    def __init__(
        self, critic_steps: int = 5, penalty_weight: float = 10.0, accumulation_steps: int = 1, **arguments: Any
    ) -> None:
        refuse_accumulation(type(self).__name__, accumulation_steps)
        super().__init__(g_loss_function=nn.Identity(), d_loss_function=nn.Identity(), **arguments)  # not called
        self.critic_steps = critic_steps
        self.penalty_weight = penalty_weight

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        state, inferer = engine.state, engine.g_inferer
        baseline, target, args, kwargs = engine.prepare_batch(batchdata, state.device, engine.non_blocking)
        state.g_network.train()
        with torch.no_grad():
            fake = inferer(baseline, state.g_network, *args, **kwargs)
        critic_loss = self._critic_step(state, baseline, target, fake)
        if state.iteration % self.critic_steps == 0:
            fake = inferer(baseline, state.g_network, *args, **kwargs)
            self._predictor_step(state, baseline, target, fake)
        return {
            Keys.IMAGE: baseline,
            Keys.LABEL: target,
            Keys.PRED: fake.detach(),
            Keys.LOSS: over_known(F.l1_loss, fake.detach(), target),
            AdversarialKeys.DISCRIMINATOR_LOSS: critic_loss,
        }

    def _critic_step(self, state: Any, baseline: Tensor, target: Tensor, fake: Tensor) -> Tensor:
        """C(fake) - C(real) + penalty, minimised in the critic."""
        state.d_optimizer.zero_grad(set_to_none=True)
        real, fake = (torch.where(target.isnan(), baseline, each) for each in (target, fake))
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        loss = (state.d_network(baseline, fake) - state.d_network(baseline, real)).mean()
        loss = loss + self.penalty_weight * gradient_penalty(state.d_network, baseline, real, fake, share)
        loss.backward()
        state.d_optimizer.step()
        return loss.detach()

    def _predictor_step(self, state: Any, baseline: Tensor, target: Tensor, fake: Tensor) -> None:
        """The image terms less C(fake), minimised in the predictor."""
        state.g_optimizer.zero_grad(set_to_none=True)
        shown = torch.where(target.isnan(), baseline, fake)
        (state.recon_loss_function(fake, target) - state.d_network(baseline, shown).mean()).backward()
        state.g_optimizer.step()
