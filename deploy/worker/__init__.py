"""A folder and archives are watched; what is asked for there is generated once, and delivered where the site allows.

Research use only. ``python -m deploy worker CONFIG``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["Config", "Destination", "Source", "read_config"],
        "deliver": ["Archive"],
        "spool": ["Spool"],
        "watch": ["Watch"],
        "work": ["Worker"],
    },
)
