"""What NAMD is held against: methods that generate a follow-up or give a probability, one file a method."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "contract": ["INPUTS", "Comparator", "Condition", "ImageMethod", "ProbabilityMethod"],
        "tables": ["COLUMNS", "HELD_OUT", "ComparatorError", "read_table", "write_table"],
        "apply": ["write_probabilities"],
        "copy": ["CopyBaseline"],
        "record": ["RecordOnly", "record_regression"],
        "direct": ["DirectClassifier", "direct_items", "prepare_direct_batch", "publish_direct"],
        "namd": ["NAMD"],
    },
)
