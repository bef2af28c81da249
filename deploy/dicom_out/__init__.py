"""A case's result as DICOM objects beside the series that it was made from, each marked as synthetic.

Research use only. :func:`write_objects` is what other code calls.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "keys": ["case_key", "read_secret"],
        "source": ["Source", "open_source"],
        "write": ["OBJECTS", "write_objects"],
    },
)
