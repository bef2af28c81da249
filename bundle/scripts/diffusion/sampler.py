"""The finished model, and the inferer that generates follow-ups with it (section 3.3.2 of the paper).

A runnable example from Python stands in bundle/docs/README.md, "From Python".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.diffusion.denoiser import Condition, Denoiser
from scripts.diffusion.noise import CaseNoise, Draw
from scripts.diffusion.schedules import sampling_scheduler
from scripts.diffusion.settings import sampling_settings
from scripts.diffusion.torchscript import ScriptableModel
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.networks.autoencoder import LatentAutoencoder
from scripts.networks.texture import coloured
from scripts.weights.checkpoints import load_network
from scripts.weights.parts import check_parts


class ProgressionModel(nn.Module):
    """All networks of the finished method in one module. ``model(baseline)`` generates one follow-up, without a report.

    Args:
        autoencoder: the autoencoder with its latent scale.
        denoiser: of the conditional stage.
    """

    def __init__(self, autoencoder: LatentAutoencoder, denoiser: Denoiser) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.denoiser = denoiser

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts, ``epsilon`` or ``v_prediction``; the sampler has to know."""
        return self.denoiser.unet.prediction_type

    @property
    def beta_schedule(self) -> str:
        """The noise schedule of its training, ``scaled_linear`` or ``linear``; the sampler has to know."""
        return self.denoiser.unet.beta_schedule

    def forward(self, image: Tensor) -> Tensor:
        """One generated follow-up (B, 1, H, W) of baselines (B, 1, H, W) in [-1, 1], without a report."""
        return ProgressionInferer(num_runs=1)(image, self)

    def __prepare_scriptable__(self) -> ScriptableModel:
        """The module that ``torch.jit.script`` compiles in place of this one; a hook of TorchScript."""
        return ScriptableModel(self, sampling_scheduler(50, self.prediction_type, "ddim", self.beta_schedule))


def load_progression_model(models_dir: str | Path, **conditioner: Any) -> ProgressionModel:
    """The finished model, read from a folder.

    Args:
        models_dir: holds ``autoencoder.safetensors``, ``unet_conditional.safetensors`` and ``conditioner/``.
        conditioner: arguments of :class:`scripts.conditioning.ReportConditioner`, which are stored with weights since
            version 0.7 and need not be given; ``llm`` where the language model has moved.

    Raises:
        CheckpointError, ConditionerError: a file is missing, or does not fit, or an argument contradicts the weights;
            or the parts were not trained with each other.
    """
    folder = Path(models_dir)
    autoencoder: Any = load_network(folder / "autoencoder.safetensors", "LatentAutoencoder")
    unet: Any = load_network(folder / "unet_conditional.safetensors", "StableDiffusionUNet")
    arguments = sampling_settings(folder, conditioner_arguments=conditioner)["conditioner_arguments"]
    check_parts(folder, arguments.get("llm", "embedded"))
    reader = ReportConditioner(**arguments).requires_grad_(False)
    reader.load_pretrained(folder / "conditioner")
    return ProgressionModel(autoencoder, Denoiser(unet, reader)).eval()


class ProgressionInferer(Inferer):
    """Generates follow-ups: a latent is denoised, given the baseline's latent and the report, and then decoded.

    The initial noise depends on ``seed``, the run and the crop alone, so a case's samples are the same in any batch and
    in any order.

    MONAI Label and MONAI Deploy call ``inferer(inputs, network)`` and pass nothing else; for them the EHR is read from
    the key ``ehr`` of the image's meta data.

    Args:
        num_steps: calls of the U-Net; guided and free predictions are one call, of twice the latents.
        num_runs: samples per case.
        seed: of the noise.
        batch_size: latents denoised at once; a case's runs may be spread over several batches.
        guidance_scale: weight w of classifier-free guidance, free + w (conditional - free); 1 is no guidance.
        interval_days: days from baseline to follow-up, for conditions that are EHRs; reports state their own.
        solver: ``ddim``, as in the paper (eta 0, so sampling adds no noise), or ``dpmpp``, which needs a quarter of the
            calls; see :func:`scripts.diffusion.sampling_scheduler`.
        progress: called after each step with the share of the steps that are done, 0 to 1.
        texture: add to every sample noise with the power that the decoder's images lack, see
            :mod:`scripts.networks.texture`.
    """

    def __init__(
        self,
        num_steps: int = 50,
        num_runs: int = 20,
        seed: int = 23,
        batch_size: int = 256,
        guidance_scale: float = 1.0,
        interval_days: float | None = None,
        solver: str = "ddim",
        progress: Callable[[float], None] | None = None,
        texture: bool = False,
    ) -> None:
        super().__init__()
        sampling_scheduler(num_steps, solver=solver)  # a wrong number of steps or solver is refused now
        if num_runs < 1:
            raise UserError(f"num_runs is {num_runs}, expected 1 or more.")
        if guidance_scale < 0:
            raise UserError(f"guidance_scale is {guidance_scale}, expected 1 (no guidance) or more, or 0 (no record).")
        self.num_steps = num_steps
        self.solver = solver
        self.num_runs = num_runs
        self.seed = seed
        self.batch_size = batch_size
        self.guidance_scale = guidance_scale
        self.interval_days = interval_days
        self.progress = progress
        self.texture = texture

    @property
    def network_calls(self) -> int:
        """Evaluations of the U-Net for one sample; a guided step has two, with the report and without it."""
        return self.num_steps * (1 if self.guidance_scale == 1.0 else 2)

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: ProgressionModel,
        condition: Condition | Sequence[Mapping[str, Any]] = None,
        draw: Draw | None = None,
    ) -> Tensor:
        """
        Args:
            inputs: baseline crops (B, 1, H, W) in [-1, 1].
            network: the model.
            condition: one report or one EHR per case, or a context (B, M, D). None takes the ``ehr`` in the meta data
                of a single image and, where there is none, the null context.
            draw: the noise, B x num_runs rows, all runs of the first crop first; :class:`CaseNoise` by default.

        Returns:
            Follow-ups (B, num_runs, H, W) in [-1, 1].

        Raises:
            UserError: crops of a size that the networks cannot halve, or more or fewer than conditions; values, given
                or generated, are not finite; or texture of weights that bring none.
        """
        _refuse_unfit(inputs, network)
        condition = self._reports(_ehr_of(inputs) if condition is None else condition, network)
        if condition is not None and len(condition) != len(inputs):
            raise UserError(f"{len(condition)} reports or records for {len(inputs)} crops; expected one for each crop.")
        inputs = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        baseline = network.autoencoder.encode_stage_2_inputs(inputs)
        context = network.denoiser.context(condition, len(inputs))
        draw = draw or CaseNoise(inputs, self.seed, range(self.num_runs))
        noise = draw(baseline.shape[1:]).to(baseline)
        baseline, context = (tensor.repeat_interleave(self.num_runs, dim=0) for tensor in (baseline, context))
        split = (tensor.split(self.batch_size) for tensor in (noise, baseline, context))
        parts = list(zip(*split, strict=True))
        guidance_scale = 1.0 if condition is None else self.guidance_scale  # both predictions are the same
        latents = (self._denoise(network, guidance_scale, part, (i, len(parts))) for i, part in enumerate(parts))
        images = [network.autoencoder.decode_stage_2_outputs(each) for each in latents]
        samples = torch.cat(images)
        if self.texture:
            samples += coloured(draw(samples.shape[1:]).to(samples), _texture(network))
        if not samples.isfinite().all():
            raise UserError(
                "Generated images hold NaN: the weights are damaged, or sampling left the range of its numbers. Import "
                "or train the weights again, and sample in float32."
            )
        return samples.clamp(-1.0, 1.0).unflatten(0, (len(inputs), self.num_runs)).squeeze(2)

    def _reports(self, condition: Condition | Sequence[Mapping[str, Any]], network: nn.Module) -> Condition:
        """The condition with EHRs written as reports; reports and contexts stay as they are."""
        if condition is None or isinstance(condition, Tensor):
            return condition
        if isinstance(network, torch.jit.ScriptModule):
            raise UserError(
                "A TorchScript model holds no language model, so it reads no report and no EHR. Give a context, None, "
                "or let the bundle have models/model.pt and no models/model.ts, which MONAI Deploy prefers."
            )
        return [each if isinstance(each, str) else radiology_report(each, self.interval_days) for each in condition]

    def _denoise(
        self,
        network: ProgressionModel,
        guidance_scale: float,
        part: Sequence[Tensor],
        place: tuple[int, int],
    ) -> Tensor:
        """Latents (n, C, h, w) without noise, of noise, baselines and contexts, the i-th of so many parts."""
        latents, baseline, context = part
        scheduler = sampling_scheduler(
            self.num_steps,
            network.prediction_type,
            self.solver,
            getattr(network, "beta_schedule", "scaled_linear"),  # TorchScript files of versions before 0.7 have none
        )
        guided = guidance_scale != 1.0
        if guided:  # with the report and without it, in one pass
            baseline = torch.cat([baseline, baseline])
            context = torch.cat([context, network.denoiser.context(None, len(context))])
        for index, step in enumerate(scheduler.timesteps, 1):
            noisy = torch.cat([latents.repeat(2, 1, 1, 1) if guided else latents, baseline], dim=1)
            # one timestep for the whole batch: its embedding is then computed once, not once for each latent
            output = network.denoiser(noisy, step[None].to(latents.device), context)
            if guided:
                reported, free = output.chunk(2)
                output = free + guidance_scale * (reported - free)
            latents, _ = scheduler.step(output, step, latents)
            if self.progress is not None:
                self.progress((place[0] + index / len(scheduler.timesteps)) / place[1])
        return latents


def _refuse_unfit(inputs: Tensor, network: ProgressionModel) -> None:
    """Refuses crops with NaN or infinite values, and sides that the networks cannot halve."""
    finite = torch.isfinite(inputs).flatten(1).all(dim=1).tolist()
    if not all(finite):
        files = getattr(inputs, "meta", {}).get("filename_or_obj", "the baseline")
        file = files if isinstance(files, str) else files[finite.index(False)]
        raise UserError(f"{file}: holds values that are NaN or infinite; expected HU.")
    if not isinstance(network, torch.jit.ScriptModule):
        for side in inputs.shape[2:]:
            network.denoiser.unet.check_size(network.autoencoder.latent_size(side))


def _texture(network: nn.Module) -> list[float]:
    """The texture of the network's autoencoder."""
    if found := getattr(network.autoencoder, "config", {}).get("texture"):
        return found
    raise UserError(
        "The autoencoder brings no texture, as those of versions before 0.11. Leave texture out, or train it again."
    )


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
