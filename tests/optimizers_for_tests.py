"""Other people's optimizers, by the names that ours have.

PyTorch's own where there is one; the two rules that only a dissertation
proposes are written here once more, straight from its formulas.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

NAMES = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "rate_decay": "lr_decay",
    "initial_accumulator": "initial_accumulator_value",
}
TORCH: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
}


class Squared(torch.optim.Optimizer):
    """Park (2021), equations 6.1 and, with `rho`, 6.2."""

    def __init__(
        self, parameters: Iterable[Tensor], **settings: float
    ) -> None:
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                self._move(p, self.state[p], **group)

    def _move(  # type: ignore[no-untyped-def]
        self, p, kept, *, lr, factor, eps, weight_decay, rho=None, **_
    ) -> None:
        g = p.grad + weight_decay * p
        if rho is None:
            G = kept["G"] = kept.get("G", 0.0) + g**2
            p -= lr * factor * G**2 / (G**0.5 + eps) * g
            return
        E = kept["E"] = rho * kept.get("E", 0.0) + (1 - rho) * g**2
        D = kept.get("D", torch.zeros_like(p))
        delta = -((D + eps) ** 0.5) / (E + eps) ** 0.5 * g
        kept["D"] = rho * D + (1 - rho) * delta**2
        p += lr * factor * E**2 * delta


def peer_of(
    name: str, parameters: Iterable[Tensor], settings: dict[str, float]
) -> torch.optim.Optimizer:
    """Return somebody else's optimizer with these of our settings."""
    options: dict[str, object] = {
        NAMES.get(k, k): v for k, v in settings.items()
    }
    if name == "adam":
        defaults = {"beta1": 0.9, "beta2": 0.999} | options
        options.pop("beta1", None)
        options.pop("beta2", None)
        options["betas"] = (defaults["beta1"], defaults["beta2"])
    if name == "rmsprop" and "rho" in options:
        options["alpha"] = options.pop("rho")
    if name in TORCH:
        return TORCH[name](parameters, **options)  # type: ignore[call-arg]
    defaults = {"factor": 1.0, "weight_decay": 0.0, "eps": 1e-10}
    if name == "adadelta-squared":
        defaults |= {"rho": 0.9, "eps": 1e-6}
    return Squared(parameters, **(defaults | options))  # type: ignore[arg-type]
