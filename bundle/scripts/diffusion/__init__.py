"""Latent diffusion conditioned on the baseline's latent and on the report: noise schedule, denoiser, sampler."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "schedules": ["sampling_scheduler", "training_scheduler"],
        "noise": ["CaseNoise", "Draw"],
        "denoiser": ["Denoiser", "ConditionalDiffusionInferer"],
        "sampler": ["ProgressionInferer", "ProgressionModel", "load_progression_model"],
        "settings": ["sampling_settings"],
    },
)
