"""Optimizers: how parameters move, given their gradients. Names, defaults and state are PyTorch's.

    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""

from minidl.optim.optimizers import SGD, Adam, AdamW, Optimizer, Params, adam_update, sgd_momentum_update, sgd_update

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "Params", "adam_update", "sgd_momentum_update", "sgd_update"]
