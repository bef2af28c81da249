"""A folder is watched, what is asked for there is generated once, and delivered to archives that the site allows.

Research use only. ``python -m deploy worker CONFIG``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["Config", "Destination", "read_config"],
        "deliver": ["Archive"],
        "spool": ["Spool"],
        "work": ["Worker"],
    },
)
