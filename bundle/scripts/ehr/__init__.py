"""The patient's record (EHR): its 13 features with codes and checks, written as a report, and encoded as numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "features": ["EHR_FEATURES", "EHRError", "FEATURES", "Feature", "MISSING", "NODULE_ATTRIBUTES", "validate"],
        "report": ["interval_of", "radiology_report"],
        "encoding": ["attributes", "record_encoder", "record_numbers", "records"],
    },
)
