"""Results of an evaluation for reading: figures, the evaluation page (HTML), and a PDF page per case."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "html": ["render"],
        "output": ["write"],
        "case_view": ["CaseStudy"],
        "case_page": ["pdf"],
        "training_log": ["Stage", "read_stages"],
    },
)
