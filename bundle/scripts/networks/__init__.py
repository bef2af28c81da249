"""The networks. Each stores its arguments in ``config``, from which a checkpoint rebuilds it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["AlignedAutoencoder", "LatentAutoencoder", "StableDiffusionAutoencoder"],
        "unet": ["PREDICTION_TYPES", "StableDiffusionUNet"],
        "classifiers": ["NoduleClassifier", "ResNetClassifier", "ViTClassifier"],
        "perceptual": ["PerceptualDistance"],
        "inception": ["FeatureExtractor"],
    },
)
