"""Stable Diffusion 1.5, fine-tuned: NAMD's two diffusion stages without what is NAMD's own.

Of four things one knows it from "NAMD without both losses": its autoencoder is trained against a discriminator
(:mod:`scripts.comparators.adversarial`; NAMD ``configs/sd-VAE.yaml``, whose use for this row is a reconstruction [R]),
the report passes a plain frozen text encoder, all of whose states are the context
(:class:`~scripts.comparators.text.TextEncoder`), there are no soft prompts [R], and these states are raw, as Flux's.
NAMD's context is standardised, and at small size has 12 components, which a ridge regression on the record chooses:
that favours NAMD where the record is the signal. Neither extra loss is used.

Of the published recipe it leaves out, at any size, the autoencoder's dropout 0.2 and its tanh [R]. With ``small.yaml``
it is trained as NAMD is there, which departs further [R]: the U-Net predicts v, not noise; the autoencoder's betas are
0.9 and 0.99 for 0.5 and 0.9 (the discriminator's stay); 15 % of the reports are left out, none in the source; and it is
guided, at scale 6, which was chosen for NAMD's context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.comparators.contract import INPUTS, Condition
from scripts.comparators.generator import Generator
from scripts.comparators.parts import Part, built, describe
from scripts.comparators.text import TextEncoder
from scripts.diffusion.denoiser import Denoiser
from scripts.diffusion.noise import Draw
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
from scripts.ehr.report import radiology_report


class StableDiffusion(Generator):
    """The finished method: the autoencoder, the U-Net and the text encoder, sampled as NAMD is.

    Args:
        autoencoder: with its latent scale.
        unet: of the conditional stage.
        text: the encoder of reports, or its arguments.
        num_steps: of DDIM.
        guidance_scale: of :class:`scripts.diffusion.ProgressionInferer`; 1 where none was ever left out.
    """

    title = "SD1.5"
    reads = INPUTS
    stochastic = True

    def __init__(
        self,
        autoencoder: Part,
        unet: Part,
        text: TextEncoder | Mapping[str, Any],
        num_steps: int = 50,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__()
        encoder: Any = text if isinstance(text, TextEncoder) else TextEncoder(**text)
        self.model = ProgressionModel(built(autoencoder), Denoiser(built(unet), encoder))
        self.inferer = ProgressionInferer(num_steps, num_runs=1, guidance_scale=guidance_scale)
        self.network_calls = self.inferer.network_calls
        self.config = {
            **{"autoencoder": describe(self.model.autoencoder), "unet": describe(self.model.denoiser.unet)},
            **{"text": encoder.config, "num_steps": num_steps, "guidance_scale": guidance_scale},
        }

    @torch.no_grad()
    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        reports = [radiology_report(record, days) for record, days in condition]
        return self.inferer(baseline, self.model, reports, draw)
