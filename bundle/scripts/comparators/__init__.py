"""What NAMD is held against: methods that generate a follow-up or give a probability, one file a method."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "tables": ["COLUMNS", "HELD_OUT", "ComparatorError", "read_table", "write_table"],
        "record": ["predict_record", "record_regression"],
        "direct": ["DirectClassifier", "direct_items", "predict_direct", "prepare_direct_batch"],
    },
)
