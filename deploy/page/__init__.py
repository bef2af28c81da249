"""A page in the browser for one case at a time: load a scan, choose a point, fill in the record, generate, compare."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"app": ["make_app"], "server": ["serve"], "settings": ["Settings"]}
)
