"""Reading a dataset folder (``datalist.json`` and NIfTI crops in HU) into inputs of the networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datalist": [
            "DatalistError",
            "SECTIONS",
            "SINGLE",
            "crops",
            "inference_items",
            "load_datalist",
            "outcome",
            "pairs",
        ],
        "transforms": [
            "HU_PER_UNIT",
            "HU_WINDOW",
            "MARK",
            "ROTATIONS",
            "MarkSyntheticd",
            "baseline_crops",
            "from_hu",
            "postprocessing",
            "preprocessing",
            "to_hu",
        ],
        "intervals": ["at_intervals"],
        "latents": ["LatentDataset"],
        "spacing": ["pixel_spacing", "warn_of_spacing"],
    },
)
