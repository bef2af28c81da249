"""What an inference says of each case: probabilities by several methods, growth, and flags in plain sentences."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "case": ["Results"],
        "course": ["write_courses"],
        "write": ["add_flags", "write_results"],
        "page": ["write_page"],
        "publish": ["publish_reference"],
        "size": ["size_guidance"],
        "reference": ["METHODS", "Reference", "open_reference", "published_thresholds"],
    },
)
