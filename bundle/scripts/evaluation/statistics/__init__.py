"""The statistics of an evaluation, each with its interval over patients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "metrics": [
            "auprc",
            "auroc",
            "classification",
            "estimate",
            "fid",
            "frechet_distance",
            "kernel_distance",
            "kid",
            "patient_resamples",
            "undefined",
            "weighted_mean",
        ],
        "calibration": ["calibration_scores", "reliability"],
        "differences": ["auroc_difference"],
        "correlation": ["balanced_accuracy", "correlation", "spearman"],
    },
)
