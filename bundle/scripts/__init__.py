"""What the NAMD bundle needs beyond MONAI, Ignite, transformers and peft."""

import logging
import sys

from scripts.errors import show_message_only

# `python -m monai.bundle` has no place of its own for this; a program that sets its own hook afterwards keeps it.
sys.excepthook = show_message_only

# peft imports bitsandbytes where it is installed, which on some CPUs warns of a missing kernel that it can do without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
