"""What the NAMD bundle needs beyond MONAI, Ignite, transformers and peft.

MONAI imports this package when it resolves a configuration's ``imports``, before any of the work. Here, therefore, the
command line is prepared: how it ends on errors, which options it refuses, and which notices of other packages it omits.
"""

import logging
import sys
import warnings

from scripts.errors import UserError, show_message_only
from scripts.options import check_options, is_command_line

# Notices of no use to whoever runs the bundle.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # lacks a kernel of some CPUs
logging.getLogger("tensorboard").setLevel(logging.WARNING)  # which file of a run it reads
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # absent; crops are NIfTI
warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning, "monai.data.image_reader")  # the same

if is_command_line():
    sys.excepthook = show_message_only
    try:
        check_options(sys.argv[1:])
    except UserError as error:  # MONAI would take the failed import for an absent package, and go on
        show_message_only(type(error), error, None)
