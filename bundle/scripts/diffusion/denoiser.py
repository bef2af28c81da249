"""Latent diffusion conditioned on the baseline's latent and the report: noise schedule, network, and both inferers.

DDPM: Ho et al. 2020; DDIM: Song et al. 2021; the schedule is Stable Diffusion's, linear in sqrt(beta).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from scripts.checkpoints import load_network
from scripts.conditioning import ReportConditioner
from scripts.ehr import report
from scripts.errors import UserError
from scripts.exporting import ScriptableModel
from scripts.networks import LatentAutoencoder, StableDiffusionUNet

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}

Condition = Tensor | Sequence[str] | None
"""A context (B, M, D), a report a case, or none."""


def training_scheduler() -> DDPMScheduler:
    """The forward process of training: 1,000 steps, beta 0.00085 to 0.012."""
    return DDPMScheduler(**SCHEDULE, clip_sample=False)


def sampling_scheduler(num_steps: int = 50, prediction_type: str = "epsilon") -> DDIMScheduler:
    """DDIM over ``num_steps`` evenly spaced steps, 981, 961, .. 1 for 50, with a network of this ``prediction_type``.

    MONAI's ``set_timesteps`` spreads the steps up to 999, but its ``step`` assumes a stride of 1000 // num_steps; here
    the two agree, as in diffusers with ``timestep_spacing="leading"`` and ``steps_offset=1``.
    """
    total = SCHEDULE["num_train_timesteps"]
    if not 1 <= num_steps < total:
        raise UserError(f"num_steps is {num_steps}, expected 1 to {total - 1} DDIM steps.")
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type)
    scheduler.num_inference_steps = num_steps
    scheduler.timesteps = torch.arange(num_steps - 1, -1, -1) * (total // num_steps) + 1
    return scheduler


class Denoiser(nn.Module):
    """The U-Net and the conditioner whose prompts learn with it.

    Args:
        unet: predicts noise, or v, from the noisy latent; the conditional stage's takes the baseline's latent too.
        conditioner: turns reports into the cross-attention's context.
        null_share: of the contexts in training mode that are replaced by the null context (Ho and Salimans 2022), so
            that what guidance leads away from has been learned.
    """

    def __init__(self, unet: StableDiffusionUNet, conditioner: ReportConditioner, null_share: float = 0.0) -> None:
        super().__init__()
        self.unet = unet
        self.conditioner = conditioner
        self.null_share = null_share

    def context(self, condition: Condition, batch_size: int) -> Tensor:
        """(B, M, D) of reports, of a context as it is, or of nothing (the null context)."""
        if condition is None:
            return self.conditioner.null_context(batch_size)
        return condition if isinstance(condition, Tensor) else self.conditioner(condition)

    def forward(self, x: Tensor, timesteps: Tensor, condition: Condition = None) -> Tensor:
        """The U-Net's output (B, 4, h, w) for x (B, 4 or 8, h, w) at timesteps (B,)."""
        context = self.context(condition, len(x))
        if self.training and self.null_share:
            dropped = torch.rand(len(x), 1, 1, device=x.device) < self.null_share
            context = torch.where(dropped, self.context(None, len(x)), context)
        return self.unet(x, timesteps, context)


class NoiseInferer(Inferer):
    """One training evaluation of Eq. 9 and 10: noises the latents and lets the network predict what was added."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = training_scheduler()

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        noise: Tensor,
        timesteps: Tensor,
        condition: Condition = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """The network's output (B, C, h, w) for latents ``inputs`` (B, C, h, w)."""
        noisy = self.scheduler.add_noise(inputs, noise, timesteps)
        if concat is not None:
            noisy = torch.cat([noisy, concat], dim=1)
        return network(noisy, timesteps, condition)


class ProgressionModel(nn.Module):
    """All networks of the finished method; on its own, one input and one output: ``model(baseline)``.

    Args:
        autoencoder: with its latent scale.
        denoiser: of the conditional stage.
    """

    def __init__(self, autoencoder: LatentAutoencoder, denoiser: Denoiser) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.denoiser = denoiser

    @property
    def prediction_type(self) -> str:
        """Of the U-Net: what the sampler has to take its output for."""
        return self.denoiser.unet.prediction_type

    def forward(self, image: Tensor) -> Tensor:
        """One generated follow-up (B, 1, H, W) of baselines (B, 1, H, W) in [-1, 1], without a report."""
        return ProgressionInferer(num_runs=1)(image, self)

    def __prepare_scriptable__(self) -> ScriptableModel:
        """``torch.jit.script``'s own hook: what it compiles in this model's place."""
        return ScriptableModel(self, sampling_scheduler(prediction_type=self.prediction_type))


def load_progression_model(models_dir: str | Path, **conditioner: Any) -> ProgressionModel:
    """The finished model of a folder: ``autoencoder.safetensors``, ``unet_conditional.safetensors``, ``conditioner/``.

    Args:
        conditioner: arguments of :class:`scripts.conditioning.ReportConditioner`, as in training.

    Raises:
        CheckpointError, ConditionerError: what is missing or does not fit.
    """
    folder = Path(models_dir)
    autoencoder: Any = load_network(folder / "autoencoder.safetensors", "LatentAutoencoder")
    unet: Any = load_network(folder / "unet_conditional.safetensors", "StableDiffusionUNet")
    reader = ReportConditioner(**conditioner).requires_grad_(False)
    reader.load_pretrained(folder / "conditioner")
    return ProgressionModel(autoencoder, Denoiser(unet, reader)).eval()


class ProgressionInferer(Inferer):
    """Generates follow-ups: DDIM from noise to a latent under baseline and report, and decoded (section 3.3.2).

    All runs of all cases go through the network together. A run's noise depends on ``seed``, the run and the crop
    itself, so a case's samples are the same in any batch, order or machine.

    MONAI Label and MONAI Deploy call ``inferer(inputs, network)`` and nothing more: there the EHR comes as ``ehr`` in
    the image's meta data.

    Args:
        num_steps: DDIM steps; eta is 0.
        num_runs: samples a case.
        seed: of the noise.
        batch_size: latents denoised at once.
        guidance: classifier-free guidance weight; 1 is none.
        interval_days: from baseline to follow-up, for conditions that are EHRs; a report names its own.
    """

    def __init__(
        self,
        num_steps: int = 50,
        num_runs: int = 20,
        seed: int = 23,
        batch_size: int = 256,
        guidance: float = 1.0,
        interval_days: float | None = None,
    ) -> None:
        super().__init__()
        sampling_scheduler(num_steps)  # raises early
        self.num_steps = num_steps
        self.num_runs = num_runs
        self.seed = seed
        self.batch_size = batch_size
        self.guidance = guidance
        self.interval_days = interval_days

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: ProgressionModel, condition: Condition | Sequence[Mapping[str, Any]] = None
    ) -> Tensor:
        """
        Args:
            inputs: baseline crops (B, 1, H, W) in [-1, 1].
            network: the model.
            condition: a report or an EHR a case, a context (B, M, D), or None: the ``ehr`` in the meta data of a
                single image, if it is there.

        Returns:
            Follow-ups (B, num_runs, H, W) in [-1, 1].
        """
        condition = self._reports(_ehr_of(inputs) if condition is None else condition, network)
        inputs = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        baseline = network.autoencoder.encode_stage_2_inputs(inputs)
        context = network.denoiser.context(condition, len(inputs))
        noise = torch.stack([self._noise(crop, baseline.shape[1:]) for crop in inputs.cpu()]).to(baseline)
        repeat = [tensor.repeat_interleave(self.num_runs, dim=0) for tensor in (baseline, context)]
        parts = zip(*(tensor.split(self.batch_size) for tensor in (noise.flatten(0, 1), *repeat)), strict=True)
        guidance = 1.0 if condition is None else self.guidance  # nothing guides away from the null context
        latents = (self._denoise(network, guidance, *part) for part in parts)
        images = [network.autoencoder.decode_stage_2_outputs(each) for each in latents]
        return torch.cat(images).clamp(-1.0, 1.0).unflatten(0, (len(inputs), self.num_runs)).squeeze(2)

    def _reports(self, condition: Condition | Sequence[Mapping[str, Any]], network: nn.Module) -> Condition:
        """EHRs as reports; what is no EHR stays as it is."""
        if condition is None or isinstance(condition, Tensor):
            return condition
        if isinstance(network, torch.jit.ScriptModule):
            raise UserError(
                "A TorchScript model holds no language model, so it reads no report and no EHR. Give a context, None, "
                "or let the bundle have models/model.pt and no models/model.ts, which MONAI Deploy prefers."
            )
        return [each if isinstance(each, str) else report(each, self.interval_days) for each in condition]

    def _denoise(
        self, network: ProgressionModel, guidance: float, latents: Tensor, baseline: Tensor, context: Tensor
    ) -> Tensor:
        scheduler = sampling_scheduler(self.num_steps, network.prediction_type)
        for step in scheduler.timesteps.tolist():
            timesteps = torch.full((len(latents),), step, device=latents.device)
            noisy = torch.cat([latents, baseline], dim=1)
            output = network.denoiser(noisy, timesteps, context)
            if guidance != 1.0:
                free = network.denoiser(noisy, timesteps, None)
                output = free + guidance * (output - free)
            latents, _ = scheduler.step(output, step, latents)
        return latents

    def _noise(self, crop: Tensor, shape: torch.Size) -> Tensor:
        """(num_runs, C, h, w), a function of seed, run and the crop's pixels (rounded, so that machines agree)."""
        pixels = zlib.crc32(((crop + 1.0) * 127.5).round().to(torch.uint8).numpy().tobytes())
        seeds = (np.random.SeedSequence([self.seed, run, pixels]) for run in range(self.num_runs))
        generators = (torch.Generator().manual_seed(int(seed.generate_state(1)[0])) for seed in seeds)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def _ehr_of(inputs: Tensor) -> list[Mapping[str, Any]] | None:
    """The EHR in the meta data of a batch of one image, else None."""
    ehr = getattr(inputs, "meta", {}).get("ehr")
    if ehr is None:
        return None
    if len(inputs) != 1 or not isinstance(ehr, Mapping):
        raise UserError(
            f"The image's meta data hold an 'ehr' of type {type(ehr).__name__} for {len(inputs)} images; expected one "
            "image and a mapping of features. Give several images' records as the inferer's condition."
        )
    return [ehr]
