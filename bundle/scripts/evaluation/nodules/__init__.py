"""What images and latent spaces tell of nodules: outlines, growth in millimetres, neighbours in latent space."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "outline": ["Outlines"],
        "growth": ["Growth", "Sizes", "measure"],
        "latents": ["Nodules", "latent_scores"],
    },
)
