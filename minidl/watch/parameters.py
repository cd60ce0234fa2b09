"""The effect of a step on the parameters: gradients and updates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minidl.nn import Embedding, Module
from minidl.tensor import Array, Tensor
from minidl.watch.activations import title


@dataclass
class Parameter:
    """A parameter of the model, and its layer.

    layer    the module's name;  title: the parameter's name in sentences
    judged   whether it is a weight used by every example: not a bias, nor an embedding, whose rows mostly rest
    """

    name: str
    tensor: Tensor
    layer: str
    title: str
    judged: bool


@dataclass
class Moved(Parameter):
    """A parameter with the effect of the last step.

    norm        ‖θ‖ before the step
    gradient    the norm of its gradient, or None;  nonfinite: the number of non-finite values in it
    update      ‖Δθ‖; NaN without a copy from before
    lr          None if the optimizer does not have the parameter
    """

    norm: float
    gradient: float | None
    nonfinite: int
    update: float
    lr: float | None

    @property
    def ratio(self) -> float:
        """‖Δθ‖/‖θ‖: 0 where nothing changed, infinite where θ was 0 before."""
        return self.update / self.norm if self.norm else math.inf if self.update else self.update

    @property
    def rms(self) -> float:
        """The root mean square of its gradient; NaN if there is none."""
        return math.nan if self.gradient is None else self.gradient / math.sqrt(max(self.tensor.size, 1))

    def statistics(self) -> dict[str, float]:
        """The statistics to record."""
        size = max(self.tensor.size, 1)
        return {
            "norm": self.norm,
            "gradient_norm": math.nan if self.gradient is None else self.gradient,
            "gradient_rms": self.rms,
            "gradient_nonfinite": math.nan if self.gradient is None else self.nonfinite / size,
            "update_ratio": self.ratio,
        }


def parameters_of(model: Module) -> list[Parameter]:
    """The model's parameters in definition order, shared ones once."""
    modules, found = dict(model.named_modules()), []
    for name, p in model.named_parameters():
        owner = name
        while owner and (owner := owner.rpartition(".")[0]) not in modules:  # it may be in a list attribute of a module
            pass
        layer, own = modules[owner], name.removeprefix(f"{owner}.")
        judged = p.ndim >= 2 and not isinstance(layer, Embedding)
        found.append(Parameter(name, p, owner, f"the {own} of {title(owner, layer)}", judged))
    return found


def moved(parameter: Parameter, before: Array | None, lr: float | None) -> Moved:
    """The effect of the last step on a parameter; before: a copy of its values from before that step."""
    p = parameter.tensor
    g = p.grad
    return Moved(
        **vars(parameter),
        norm=norm(p.data if before is None else before),
        gradient=None if g is None else norm(g),
        nonfinite=0 if g is None else g.size - int(np.count_nonzero(np.isfinite(g))),
        update=math.nan if before is None else norm(np.subtract(p.data, before, dtype=np.float64)),
        lr=lr,
    )


def norm(a: Array) -> float:
    """√Σa², summed in float64."""
    with np.errstate(all="ignore"):
        return math.sqrt(float(np.square(a, dtype=np.float64).sum()))
