"""Exports of the finished model: a diffusers folder, ONNX, and one file for the Model Zoo."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "diffusers": ["export_diffusers"],
        "onnx": ["export_onnx"],
        "pack": ["pack"],
    },
)
