#!/usr/bin/env bash
# What happens   The attention blocks of MONAI Generative's AutoencoderKL own a projection (proj_attn) that the forward pass
#                never calls: it gets no gradient, stays as random as it began and is stored in every checkpoint. MONAI's
#                load_old_state_dict, made for these checkpoints, puts those random weights where MONAI's network does
#                apply a projection. So a trained autoencoder loads without a word and decodes to something else.
#                With the identity in that place both networks agree exactly.
# Versions       monai-generative 0.2.3, MONAI 1.6.1, torch 2.13.0
# One expects    the same output from the same weights, which is what the method is for.
# Source         the method's documentation: it loads a state dict from MONAI Generative Models; nothing on attention.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet monai==1.6.1 torch==2.13.0 monai-generative==0.2.3 einops==0.8.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import monai
import torch
from generative.networks.nets import AutoencoderKL as Old
from monai.networks.nets import AutoencoderKL as New

SHAPE = dict(spatial_dims=2, in_channels=1, out_channels=1, latent_channels=3, num_res_blocks=1, norm_num_groups=8)
SHAPE["attention_levels"] = (True,)
print("MONAI", monai.__version__, "torch", torch.__version__)
torch.manual_seed(0)
old, new = Old(num_channels=(8,), **SHAPE).eval(), New(channels=(8,), **SHAPE).eval()
image = torch.randn(1, 1, 16, 16)

expected = old.reconstruct(image)
expected.sum().backward()
idle = {name.split(".")[-2] for name, p in old.decoder.named_parameters() if p.grad is None}
print("without a gradient in the old decoder:", idle)
assert idle == {"proj_attn"}, "the old package applies it now"

new.load_old_state_dict(old.state_dict())
with torch.no_grad():
    loaded = (new.reconstruct(image) - expected).abs().max().item()
    for name, p in new.named_parameters():
        if "out_proj" in name:
            p.copy_(torch.eye(*p.shape) if p.ndim == 2 else torch.zeros_like(p))
    identity = (new.reconstruct(image) - expected).abs().max().item()
print(f"largest difference after load_old_state_dict {loaded:.3f}, with the identity {identity:.1e}")
assert loaded > 0.1, "old checkpoints load as they were"
assert identity < 1e-5, "the projection is not the only difference"
PYTHON
