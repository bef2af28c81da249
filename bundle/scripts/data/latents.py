"""A dataset of scaled latents, each encoded once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import Dataset
from torch import Tensor

from scripts.data.padding import box_key, real_key
from scripts.data.transforms import Rotationsd, preprocessing

logger = logging.getLogger(__name__)


class LatentDataset(Dataset):
    """A MONAI dataset of scaled latents in place of crops, for a frozen autoencoder.

    At the first access all crops are encoded in every rotation and kept in memory; later accesses draw a rotation. That
    gives the same latents as encoding rotated crops in every step, without its time.

    A latent is the mean of q(z | x); with ``sampled``, each access draws another one from it.

    Args:
        data: MONAI items with paths under ``keys``.
        keys: the crops to encode; those of one item are rotated alike.
        autoencoder: a :class:`scripts.networks.LatentAutoencoder`.
        image_size: side in pixels of the central square that is encoded.
        rotations: degrees; each access draws one of them.
        batch_size: crops encoded at once.
        sampled: draw latents, as Stable Diffusion's own training does.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        keys: Sequence[str],
        autoencoder: Any,
        image_size: int = 64,
        rotations: Sequence[int] = (0,),
        batch_size: int = 64,
        sampled: bool = False,
    ) -> None:
        super().__init__(list(data))
        self.keys = tuple(keys)
        self.autoencoder = autoencoder.eval()
        self.autoencoder.latent_size(image_size)  # an impossible size is refused now
        self.image_size = image_size
        self.rotations = tuple(rotations)
        self.batch_size = batch_size
        self.sampled = sampled
        self._latents: dict[str, Tensor] = {}
        self._real: dict[str, Tensor] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """The item with each key as a latent (C, h, w), all in the same rotation, and masks (1, h, w) of padding."""
        if not self._latents:
            crops = len(self.data) * len(self.keys)
            turned = f", each in {len(self.rotations)} rotations" if len(self.rotations) > 1 else ""
            logger.info(f"Encoding {crops} crops into latents{turned}")
            self._latents = {key: self._encode(key) for key in self.keys}
        turn = int(torch.randint(len(self.rotations), ())) if len(self.rotations) > 1 else 0
        item = {name: value for name, value in self.data[index].items() if name not in map(box_key, self.keys)}
        masks = {real_key(key): real[index, turn] for key, real in self._real.items()}
        return item | {key: self._drawn(*self._latents[key][:, index, turn]) for key in self.keys} | masks

    def _drawn(self, mean: Tensor, std: Tensor | None = None) -> Tensor:
        """A latent (C, h, w) of the distribution that :meth:`_encode` keeps."""
        return mean if std is None else mean + std * torch.randn_like(mean)

    @torch.no_grad()
    def _encode(self, key: str) -> Tensor:
        """The latents of all items on the CPU, (1 or 2, items, rotations, C, h, w), see :meth:`_moments`."""
        device = next(self.autoencoder.parameters()).device
        load = preprocessing([key])
        whole = [load({name: item[name] for name in (key, box_key(key)) if name in item}) for item in self.data]
        turn = Rotationsd([key], self.rotations, self.image_size)
        views = [turn(item) for item in whole]
        crops = torch.stack([view.as_tensor() for item in views for view in item[key]])
        latents = [self._moments(part.to(device)).cpu() for part in crops.split(self.batch_size)]
        if all(real_key(key) in item for item in views):
            real = torch.stack([view for item in views for view in item[real_key(key)]])
            self._real[key] = _mostly(real, (latents[0].shape[-2], latents[0].shape[-1])).unflatten(
                0, (len(whole), len(self.rotations))
            )
        return torch.cat(latents, dim=1).unflatten(1, (len(whole), len(self.rotations)))

    def _moments(self, crops: Tensor) -> Tensor:
        """Scaled means of n crops' latents, (1, n, C, h, w); with ``sampled`` also the deviations, (2, n, C, h, w)."""
        if self.sampled:
            return torch.stack(self.autoencoder.encode(crops)) * self.autoencoder.latent_scale
        return self.autoencoder.encode_stage_2_inputs(crops)[None]


def _mostly(real: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (n, 1, H, W) at the latents' size: whether at least half of what a latent stands for is not padded."""
    return F.adaptive_avg_pool2d(real.float(), size) >= 0.5
