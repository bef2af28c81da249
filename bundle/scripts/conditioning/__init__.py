"""Encoding reports as the context of the U-Net's cross-attention, by a frozen language model with soft prompts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "conditioner": ["NULL_REPORT", "ReportConditioner"],
        "context": ["ContextNormaliser"],
        "null": ["NullConditioner", "null_conditioner"],
        "language_models": ["ConditionerError", "load_language_model"],
    },
)
