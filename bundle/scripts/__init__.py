"""The code of the NAMD bundle beyond MONAI, Ignite, transformers and peft.

MONAI imports this package before any other work, when it resolves a configuration's ``imports``. The command line is
therefore prepared here: ``--help``, how errors are shown, which options are refused, which notices are hidden.
"""

import atexit
import gc
import logging
import sys
import warnings

from scripts.errors import UserError, show_message_only
from scripts.options import is_command_line

# Else the interpreter's last collections walk through all that torch and MONAI have made, which takes a second or two.
atexit.register(gc.freeze)

# Notices that do not concern users of the bundle.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # a kernel that some CPUs lack
logging.getLogger("tensorboard").setLevel(logging.WARNING)  # the event file that it reads
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # not installed, not needed for NIfTI
warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning, "monai.data.image_reader")  # the same

if is_command_line():
    from scripts.options import check_options, help_is_asked_for, print_help, read_truths

    sys.excepthook = show_message_only
    try:
        if help_is_asked_for(sys.argv[1:]):
            print_help(sys.argv[1:])
            raise SystemExit
        check_options(sys.argv[1:])
        read_truths()
    except UserError as error:  # else MONAI would take it for a missing package, and continue
        show_message_only(type(error), error, None)
