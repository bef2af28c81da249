"""The finished model for others: a diffusers folder, ONNX, one file for the Model Zoo."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "diffusers": ["export_diffusers"],
        "onnx": ["export_onnx"],
        "pack": ["pack"],
    },
)
