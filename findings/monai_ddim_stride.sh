#!/usr/bin/env bash
# What happens   MONAI's DDIMScheduler spreads its timesteps evenly from the last to 0 (1000 in 30 steps: 34.4 apart), but
#                each step goes down by the whole number 1000 // 30 = 33. Where the two differ the sample carries another
#                noise level than the network is told next. With 300, 600 or 700 steps of 1000 a perfect noise predictor
#                then yields samples with far too little spread (1.9 instead of 3.0 at 600), while 500 and 1000 are right:
#                more steps are worse than fewer, without a warning.
# Versions       MONAI 1.6.1, torch 2.13.0
# One expects    any number of steps up to the training's, as allowed, with an error that shrinks as steps grow.
# Source         MONAI's pull request 8623 changed the timesteps and left the step; diffusers's issue 12633 has the same of
#                its "linspace". Compared below: the DDIM update (Song et al. 2021, equation 12, eta 0) from timestep to timestep.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet monai==1.6.1 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import monai
import torch
from monai.networks.schedulers import DDIMScheduler

SPREAD = 3.0  # the data: normal, mean 0
print("MONAI", monai.__version__, "torch", torch.__version__)


def spreads(steps):
    """Standard deviation of 20,000 samples: the scheduler's steps, and the same update between neighbouring timesteps."""
    scheduler = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", clip_sample=False)
    scheduler.set_timesteps(steps)
    alpha = scheduler.alphas_cumprod

    def noise(x, t):  # the best prediction there is, in closed form
        return x * (1 - alpha[t]).sqrt() / (alpha[t] * SPREAD**2 + 1 - alpha[t])

    x = y = torch.randn(20000, 1, generator=torch.Generator().manual_seed(0))
    times = scheduler.timesteps.tolist()
    for t, following in zip(times, [*times[1:], None]):
        x, _ = scheduler.step(noise(x, t), t, x)
        eps, a = noise(y, t), alpha[t]
        below = torch.tensor(1.0) if following is None else alpha[following]
        y = below.sqrt() * (y - (1 - a).sqrt() * eps) / a.sqrt() + (1 - below).sqrt() * eps
    return x.std().item(), y.std().item()


for steps in (250, 300, 500, 600, 700, 1000):
    theirs, exact = spreads(steps)
    print(f"{steps:5} steps: spread {theirs:.2f}, with neighbouring timesteps {exact:.2f}, the data's {SPREAD}")
    assert abs(exact - SPREAD) < 0.1, "the comparison itself is off"
    assert (theirs < 2.8) == (steps in (300, 600, 700)), "the scheduler's stride now fits its timesteps"
PYTHON
