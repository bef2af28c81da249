"""The command line ``python -m monai.bundle``: its options, whether their names and values can be meant, what is next.

MONAI itself accepts any option as a value of the configuration; a misspelt one would be ignored without a word.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "check": ["RENAMED", "check_options"],
        "command_line": ["NEXT", "end_here", "is_command_line", "log_next", "next_command", "parse_options"],
        "configuration": ["Entry", "OptionError"],
        "values": ["read_truths"],
        "help": ["help_is_asked_for", "print_help"],
    },
)
