"""Measurements of nodules: outlines and growth in images, attributes and diameters in latent spaces."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "outline": ["Outlines"],
        "growth": ["Growth", "Sizes", "measure"],
        "forecasts": ["Forecasts", "Section"],
        "latents": ["Nodules", "latent_scores"],
    },
)
