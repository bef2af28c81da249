"""Evaluation of generated follow-ups (section 4): metrics, figures and an evaluation page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluator": ["evaluate"],
        "handler": ["Evaluation"],
        "record": ["evaluation_record", "judged_by"],
        "judge": ["Bootstrap", "Judge", "Method"],
        "memorisation": ["audit_memorisation"],
        "requirements": ["check_section"],
        "scored": ["ScoreTable"],
        "sections": ["open_section"],
        "study": ["Study"],
        "steering": ["steer"],
        "report.headline": ["log_result"],
        "report.training_log": ["read_stages"],
    },
)
