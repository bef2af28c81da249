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
        "added_value": ["added_by_images"],
        "calibration": ["calibration_scores", "reliability"],
        "contrasts": ["contrast", "holm"],
        "decision_curve": ["decision_curves"],
        "differences": ["auroc_difference"],
        "halves": ["halves"],
        "folds": ["patient_folds"],
        "recalibration": ["recalibration_scores"],
        "forecasts": ["Forecast", "crps", "rank_histogram"],
        "regret": ["divergence", "regrets"],
        "subgroups": ["events_warning", "members_of", "subgroup"],
        "thresholds": ["fixed_thresholds", "operating_points"],
        "correlation": ["balanced_accuracy", "correlation", "spearman"],
    },
)
