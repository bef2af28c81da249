"""Weights on disk: this bundle's files, published files of other projects, and the tensor names of both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": [
            "CheckpointError",
            "initial_classifier",
            "load_network",
            "load_tensors",
            "read_metadata",
            "required_pretrained",
            "save_network",
            "trained_image_size",
        ],
        "parts": ["conditioner_arguments"],
        "pretrained": [
            "conditional_unet",
            "convert_published",
            "initial_autoencoder",
            "initial_unet",
            "start_autoencoder",
            "start_unet",
        ],
        "published": ["open_weights"],
        "key_maps": ["key_maps_of"],
    },
)
