"""The app: MONAI Label's, with one inference task. MONAI Label looks for it in a file of this name.

Its own server would take names of files out of a request; :mod:`deploy.monai_label.serve` stands in its place.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import types
from pathlib import Path
from typing import Any

import monai.data  # noqa: F401  which looks for itk itself, and must not find the module below
from starlette.exceptions import HTTPException

from data_prep.errors import ImageError
from deploy.case import CASE, Predictor
from deploy.monai_label.asked import DEFAULTS, IMAGE_ID, AskedError, read
from scripts.ehr.features import EHRError

# MONAI Label imports these for DICOM SEG, which is not served: pydicom_seg fails on pydicom 3 (MONAILabel issue 1841),
# and itk has 1.5 GB.
for name in ("pydicom_seg", "itk"):
    sys.modules.setdefault(name, types.ModuleType(name))

from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType  # noqa: E402

MODEL = "namd"

DESCRIPTION = "Follow-up of one lung nodule, generated: SYNTHETIC, research use only"


class FollowUp(InferTask):
    """One case: the mean of all follow-ups, at its place in the scan, and ``result.json``.

    Args:
        models_dir: the weights; None: the bundle's.
        settings: of ``inference.yaml``, but for ``num_runs``, which is asked for.
    """

    def __init__(self, models_dir: Path | None = None, **settings: Any) -> None:
        super().__init__(InferType.OTHERS, [], 3, DESCRIPTION, dict(DEFAULTS))
        self.models_dir, self.settings, self.runs = models_dir, settings, 0
        self.predictor = Predictor(models_dir, **settings)
        self._one = threading.Lock()

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The name of a NIfTI file, which the caller removes, and the result.

        Args:
            request: ``image``, a file of the datastore, and the keys of :func:`deploy.monai_label.asked.read`.

        Raises:
            HTTPException: 422, of what is wrong with scan, point or record.
        """
        try:
            asked = read({key: value for key, value in request.items() if key != "image"})
            with self._one, tempfile.TemporaryDirectory() as place:
                if asked.num_runs != self.runs:  # the weights of the runs asked for last stay open
                    self.predictor = Predictor(self.models_dir, **self.settings, num_runs=asked.num_runs)
                    self.runs = asked.num_runs
                case = (Path(request["image"]), asked.point, asked.record, Path(place) / "out")
                result = self.predictor.predict(*case, interval_days=asked.interval_days)
                with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as kept:
                    shutil.copyfile(Path(place) / "out" / CASE / "mean.nii.gz", kept.name)
        except ImageError as error:
            raise HTTPException(422, error.reason) from error
        except (AskedError, EHRError) as error:
            raise HTTPException(422, str(error)) from error
        return kept.name, result


class App(MONAILabelApp):
    """MONAI Label's app of one model, on a folder of NIfTI files.

    Args:
        app_dir, studies, conf: MONAI Label's.
        settings: of :class:`FollowUp`.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str], **settings: Any) -> None:
        self.settings = settings
        super().__init__(app_dir, studies, conf, name="NAMD", description=DESCRIPTION, version="1")

    def init_infers(self) -> dict[str, InferTask]:
        return {MODEL: FollowUp(**self.settings)}

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """MONAI Label's, but that an image is one of the datastore by its name, and that nothing is saved.

        Raises:
            HTTPException: 404, of a model or an image that is none; and as :class:`FollowUp`.
        """
        asked = {key: value for key, value in request.items() if key != "model"}
        image = asked.get("image")
        if request.get("model") != MODEL:
            raise HTTPException(404, f"no such model; expected {MODEL}.")
        if not isinstance(image, str) or not IMAGE_ID.fullmatch(image) or image not in self.datastore().list_images():
            raise HTTPException(404, "no such image; upload it first.")
        file, result = self._infers[MODEL]({**asked, "image": self.datastore().get_image_uri(image)})
        return {"label": file, "tag": "original", "file": file, "params": result}
