"""Training of autoencoders against a discriminator (Esser et al. 2021, VQGAN), whose weights are adaptive.

Stable Diffusion's autoencoder and DDL-CXR's are trained so; DDL-CXR's also against the outcome. A term's weight is the
ratio of two gradients' norms at one layer: the reconstruction's, and the term's. MONAI's ``PatchAdversarialLoss`` is
not used: its hinge passes the logits through tanh, also for the generator. No epoch from before the discriminator is
published [R]: the loss by which epochs are chosen has no adversarial term, and would take one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.engines import AdversarialTrainer, IterationEvents
from monai.networks.nets import PatchDiscriminator
from monai.utils.enums import AdversarialKeys
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from scripts.errors import UserError
from scripts.losses import gaussian_kl, known_cross_entropy
from scripts.ranks import averaged
from scripts.training.engines import refuse_accumulation

MAX_WEIGHT = 1e4
"""Upper limit of a ratio of gradients."""


def gradient_ratio(reconstruction: Tensor, term: Tensor, layer: Tensor) -> Tensor:
    """|grad reconstruction| / (|grad term| + 1e-4) with respect to ``layer``, from 0 to 1e4, detached.

    The gradients are those of the whole batch, of which each rank has its share: all ranks have the same ratio.
    """
    losses = (reconstruction, term)
    first, second = (averaged(torch.autograd.grad(loss, layer, retain_graph=True)[0]) for loss in losses)
    return (first.norm() / (second.norm() + 1e-4)).clamp(0.0, MAX_WEIGHT).detach()


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, 1/2 mean relu(1 - real) + 1/2 mean relu(1 + fake), of its logits."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def fooling_loss(fake: Tensor) -> Tensor:
    """The autoencoder's adversarial loss: minus the mean of the discriminator's logits."""
    return -fake.mean()


def discriminator(channels: int = 64, num_layers: int = 3) -> PatchDiscriminator:
    """The patch discriminator of grey crops (Isola et al. 2017); its last output is the map of logits."""
    return PatchDiscriminator(2, channels, in_channels=1, out_channels=1, num_layers_d=num_layers)


class AdversarialAutoencoderTrainer(AdversarialTrainer):
    """MONAI's trainer for an autoencoder, a discriminator and, optionally, the prediction of the outcome.

    The autoencoder's loss is R + w_kl KL + w_adv a_adv L_adv + a_label BCE, where R is the reconstruction loss, a_adv
    its :func:`gradient_ratio` at the decoder's last convolution, and a_label that at the encoder's. The discriminator
    starts to learn, and to be fooled, after ``start`` steps.

    Args:
        autoencoder: inside ``g_network``, a :class:`scripts.networks.AlignedAutoencoder`.
        start: steps without a discriminator.
        adversarial_weight: w_adv.
        kl_weight: w_kl.
        summed: R is summed over pixels, as in Stable Diffusion's code and DDL-CXR's; else a mean.
        label: whether the outcome is predicted from the sampled latent.
        accumulation_steps: 1, since it steps on every batch.
        arguments: of MONAI's trainer.

    Raises:
        UserError: more ``accumulation_steps`` than 1.
    """

    def __init__(
        self,
        autoencoder: Any,
        start: int = 10_000,
        adversarial_weight: float = 0.5,
        kl_weight: float = 1e-6,
        summed: bool = False,
        label: bool = False,
        accumulation_steps: int = 1,
        **arguments: Any,
    ) -> None:
        refuse_accumulation(type(self).__name__, accumulation_steps)
        self.layers: dict[str, Tensor] = {
            "encoder": autoencoder.encoder.blocks[-1].conv.weight,
            "decoder": autoencoder.decoder.blocks[-1].conv.weight,
        }
        self.start, self.summed, self.label = start, summed, label
        self.adversarial_weight, self.kl_weight = adversarial_weight, kl_weight
        self.terms: dict[str, Tensor] = {}
        super().__init__(
            g_loss_function=fooling_loss, d_loss_function=hinge_loss, event_names=[IterationEvents], **arguments
        )

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """A step of the autoencoder and, after ``start``, one of the discriminator with the same reconstructions."""
        state = engine.state
        inputs, target = engine.prepare_batch(batchdata, state.device, engine.non_blocking, **engine.to_kwargs)
        fooled = state.iteration > self.start
        state.g_network.train()
        state.d_network.train().requires_grad_(False)
        state.g_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        prediction = engine.g_inferer(inputs, state.g_network)
        fake = torch.where(target["image"].isnan(), inputs, prediction["reconstruction"])  # alike where padded
        loss = self._loss(prediction, target, fake if fooled else None)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        state.g_optimizer.step()
        state.output = {Keys.IMAGE: inputs, Keys.LABEL: target, Keys.PRED: prediction, Keys.LOSS: loss.detach()}
        if fooled:
            state.d_network.requires_grad_(True)
            state.d_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
            real, fake = (state.d_network(each.detach())[-1] for each in (inputs, fake))
            state.output[AdversarialKeys.DISCRIMINATOR_LOSS] = state.d_loss_function(real, fake)
            state.output[AdversarialKeys.DISCRIMINATOR_LOSS].backward()
        state.d_optimizer.step()  # before the start there are no gradients, and only the rate's schedule notices
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return state.output

    def _loss(self, prediction: Mapping[str, Tensor], target: Mapping[str, Any], fake: Tensor | None) -> Tensor:
        """The autoencoder's loss, with ``fake`` for the discriminator, if any; terms and weights are in ``terms``."""
        reconstruction = self.state.recon_loss_function(prediction, target)
        if self.summed:
            reconstruction = reconstruction * prediction["reconstruction"][0].numel()
        terms = {"reconstruction": reconstruction, "kl": gaussian_kl(prediction["mean"], prediction["std"])}
        weights: dict[str, float | Tensor] = {"reconstruction": 1.0, "kl": self.kl_weight}
        if fake is not None:
            terms["adversarial"] = self.state.g_loss_function(self.state.d_network(fake)[-1])
            ratio = gradient_ratio(reconstruction, terms["adversarial"], self.layers["decoder"])
            weights["adversarial"] = self.adversarial_weight * ratio
        if self.label:
            terms["label"] = known_cross_entropy(prediction["logit"], target["malignant"])
            weights["label"] = gradient_ratio(reconstruction, terms["label"], self.layers["encoder"])
        self.terms = {name: term.detach() for name, term in terms.items()}
        self.terms |= {f"{name}_weight": torch.as_tensor(weight) for name, weight in weights.items()}
        return sum((weights[name] * term for name, term in terms.items()), torch.zeros(()).to(reconstruction))


class FromStart:
    """The loss by which an epoch is chosen: infinite until the discriminator has taken part, so none before is [R].

    It is a handler of the trainer, too, whose steps it follows.

    Args:
        loss: of validation.
        start: of :class:`AdversarialAutoencoderTrainer`.
    """

    def __init__(self, loss: Callable[[Any, Any], Tensor], start: int) -> None:
        self.loss, self.start, self.begun = loss, start, False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.look)

    def look(self, engine: Engine) -> None:
        """Notes whether the step that has ended had a discriminator."""
        self.begun = engine.state.iteration > self.start

    def __call__(self, prediction: Any, target: Any) -> Tensor:
        found = self.loss(prediction, target)
        return found if self.begun else torch.full_like(found, math.inf)


def begins_in_time(start: int, epoch_length: int, max_epochs: int, patience: int = 0) -> None:
    """Refuses a training that ends before the discriminator begins, since no epoch of it would be published.

    Args:
        start: of :class:`AdversarialAutoencoderTrainer`.
        epoch_length: steps of an epoch.
        patience: of :class:`scripts.training.Checkpoint`.

    Raises:
        UserError: there are no steps after ``start``, or patience may end before it.
    """
    steps = epoch_length * max_epochs
    if steps <= start:
        raise UserError(
            f"adversary::start is {start}, but max_epochs {max_epochs} ends after {steps} steps, so that no epoch "
            f"could be published. Give --adversary::start {steps // 3}, as by default, or more --max_epochs."
        )
    if 0 < patience * epoch_length <= start:
        raise UserError(
            f"patience of {patience} epochs, {patience * epoch_length} steps, may end the training before the "
            f"discriminator begins, which is after step {start}, so that no epoch could be published. Give "
            f"--patience 0 or at least {start // epoch_length + 1}."
        )
