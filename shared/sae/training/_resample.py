"""Silent latents of a standard dictionary start anew at inputs of large error (Bricken et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared.sae.training._run import Run


@torch.no_grad()
def resample_(run: Run, asleep: Tensor, x: Tensor, target: Tensor, errors: Tensor) -> None:
    """Point the latents `asleep` `(d_sae,)` at rows drawn by squared error; encoder columns at 0.2 of the others' norm.

    Their moments in Adam and their count of silence start anew too. All asleep: nothing to take the norm from.
    """
    count, sae = int(asleep.sum()), run.sae
    if not count or bool(asleep.all()):
        return
    x = sae.prepare(x)
    target = target.to(sae.W_dec)
    draw = torch.multinomial((errors**2).cpu(), count, replacement=count > len(x), generator=run.generator)
    draw = draw.to(sae.device)
    centred = sae.centre(x[draw], sae.stats(x[draw]))
    goal = centred if not sae.cfg.is_transcoder else target[draw] - sae.b_dec
    sae.W_dec[asleep] = normalize(goal, dim=1)
    sae.W_enc[:, asleep] = 0.2 * sae.W_enc[:, ~asleep].norm(dim=0).mean() * normalize(centred, dim=1).T
    sae.b_enc[asleep] = 0
    for parameter, index in ((sae.W_dec, asleep), (sae.W_enc, (slice(None), asleep)), (sae.b_enc, asleep)):
        if parameter not in run.optimizer.state:  # of a dictionary without biases
            continue
        for moment in ("exp_avg", "exp_avg_sq"):
            run.optimizer.state[parameter][moment][index] = 0
    run.silent[asleep] = 0
