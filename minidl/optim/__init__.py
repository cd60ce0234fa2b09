"""Optimizers, learning-rate schedules and gradient clipping.

    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs)
    …
    optimizer.zero_grad(); loss.backward()
    optim.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()

Names, arguments and defaults are PyTorch's.
"""

from minidl.optim.clip import clip_grad_norm_, clip_grad_value_
from minidl.optim.combined import ChainedScheduler, SequentialLR
from minidl.optim.cycles import CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR
from minidl.optim.optimizers import SGD, Adam, AdamW, Optimizer, Params, adam_update, sgd_momentum_update, sgd_update
from minidl.optim.plateau import ReduceLROnPlateau
from minidl.optim.presets import SCHEDULES, replan
from minidl.optim.schedules import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)

__all__ = [
    "SCHEDULES", "SGD", "Adam", "AdamW", "ChainedScheduler", "ConstantLR", "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
    "Optimizer", "Params", "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR", "adam_update",
    "clip_grad_norm_", "clip_grad_value_", "replan", "sgd_momentum_update", "sgd_update",
]  # fmt: skip
