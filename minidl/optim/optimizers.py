"""Optimizers: updates of parameters from their gradients. Names, defaults and state are PyTorch's.

    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    optimizer.zero_grad(); loss.backward(); optimizer.step()

`param_groups` is a list of dicts, each with its "params" and its options, which may be changed between steps
(`optimizer.param_groups[0]["lr"] = 1e-4`). A parameter without a gradient is not updated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, ValuesView
from typing import Any, ClassVar

import numpy as np

from minidl.core.errstate import quietly
from minidl.core.seam import SEAM
from minidl.core.tracing import is_traced
from minidl.jit import kernel, prange
from minidl.ops.inputs import kernel_array
from minidl.optim.checks import Check, flag, number, pair, tensors
from minidl.tensor import FLOATS, Array, Tensor

Params = Iterable[Tensor] | Iterable[dict[str, Any]]


def _large(p: Array, *_: Any) -> bool:
    """Whether threads pay off: the update is memory-bound."""
    return p.size >= 1 << 15


@kernel(parallel=_large, updates=("p",))
def sgd_update(p: Array, g: Array, lr: float, weight_decay: float) -> None:
    """p ← p − lr·(g + weight_decay·p).   Flat arrays of one length"""
    number = p.dtype.type
    rate, decay = number(lr), number(weight_decay)
    for i in prange(p.size):
        p[i] -= rate * (g[i] + decay * p[i])


@kernel(parallel=_large, updates=("p", "buffer"))
def sgd_momentum_update(
    p: Array, g: Array, buffer: Array, lr: float, momentum: float, share: float, weight_decay: float, nesterov: bool
) -> None:
    """g ← g + weight_decay·p;  buffer ← momentum·buffer + share·g;  p ← p − lr·(buffer, or g + momentum·buffer)"""
    number = p.dtype.type
    rate, keep, take, decay = number(lr), number(momentum), number(share), number(weight_decay)
    for i in prange(p.size):
        d = g[i] + decay * p[i]
        buffer[i] = keep * buffer[i] + take * d
        if nesterov:
            p[i] -= rate * (d + keep * buffer[i])
        else:
            p[i] -= rate * buffer[i]


@kernel(parallel=_large, updates=("p", "m", "v"))
def adam_update(
    p: Array, g: Array, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool, tiny: Any,
) -> None:  # fmt: skip
    """Step t:  p ← p·(1 − lr·weight_decay) if `decoupled`, else g ← g + weight_decay·p;
    m ← beta1·m + (1 − beta1)·g;  v ← beta2·v + (1 − beta2)·g²;  p ← p − rate·m / (root·√v + eps)

    rate = lr / (1 − beta1ᵗ), root = 1 / √(1 − beta2ᵗ). Moments smaller than `tiny`, the smallest normal number,
    become 0: arithmetic on denormals is slow.
    """
    number = p.dtype.type
    rate, root = number(lr / (1 - math.pow(beta1, t))), number(1 / math.sqrt(1 - math.pow(beta2, t)))
    keep1, share1, keep2, share2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    coupled, decay = number(0 if decoupled else weight_decay), number(lr * weight_decay if decoupled else 0)
    zero, small = number(0), number(eps)
    for i in prange(p.size):
        q = p[i] - decay * p[i]
        d = g[i] + coupled * q
        mi = keep1 * m[i] + share1 * d
        vi = keep2 * v[i] + share2 * (d * d)
        mi = zero if abs(mi) < tiny else mi
        vi = zero if vi < tiny else vi
        m[i] = mi
        v[i] = vi
        p[i] = q - rate * mi / (root * math.sqrt(vi) + small)


class Optimizer:
    """The base class: parameter groups, per-parameter state, and the state dictionary.

    params: Tensors, or dicts with "params" and the options of that group. ValueError: no parameters, a duplicate, or
    options out of range. TypeError: not a leaf Tensor, or a non-numeric option.
    """

    options: ClassVar[dict[str, Check]] = {  # options of subclasses that are not listed are not checked
        **dict.fromkeys(("lr", "initial_lr", "momentum", "weight_decay", "eps"), number(0, plainly=True)),
        "dampening": number(),
        "nesterov": flag,
        "betas": pair(number(0, 1, below=True)),
    }
    state_keys: tuple[str, ...] = ()  # required in the state of a parameter

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        if isinstance(params, Iterator | ValuesView):
            params = list(params)
        groups: Any = params if isinstance(params, list | tuple) and all(isinstance(g, dict) for g in params) else None
        for group in groups or [{"params": params}]:
            self.add_param_group(group)
        if not any(group["params"] for group in self.param_groups):
            found = "found none; a generator gives them once"
            raise ValueError(f"{type(self).__name__}: expected parameters to optimize, {found}")

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group of parameters, with its own options where given."""
        name = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f'{name}: expected groups as dicts with "params", found {group!r:.200}')
        if unknown := set(group) - set(self.defaults) - {"params", "initial_lr"}:
            raise ValueError(f"{name}: expected options {sorted(self.defaults)}, found {sorted(map(str, unknown))}")
        params = tensors(name, group["params"], "leaf Tensors")
        known = {p for g in self.param_groups for p in g["params"]}
        for p in params:
            if not p.is_leaf or p.dtype not in FLOATS:
                raise TypeError(f"{name}: expected leaf Tensors in float32 or float64, found {p!r:.200}")
            if p in known:
                raise ValueError(f"{name}: a parameter of shape {p.shape} is there twice")
            known.add(p)
        given = {k: v for k, v in {**self.defaults, **group}.items() if k != "params"}
        self.param_groups.append({"params": params, **self._checked(given)})

    def _checked(self, options: dict[str, Any], **others: Check) -> dict[str, Any]:
        """The options as plain numbers; `others` override checks. TypeError, ValueError: a wrong type, out of range."""
        name, checks = type(self).__name__, {**self.options, **others}
        made = {key: checks[key](name, key, v) if key in checks else v for key, v in options.items()}
        self._check(made)
        return made

    def _check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if options are incompatible."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients: set them to None, or to zeros if not `set_to_none`."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else np.zeros_like(p.data)

    @quietly
    def step(self) -> None:
        """Update every parameter that has a gradient.

        ValueError, before any changes: a gradient whose shape is not its parameter's, a read-only parameter or state.
        """
        name, params = type(self).__name__, [p for group in self.param_groups for p in group["params"]]
        for n, p in enumerate(params):
            if p.grad is None:
                continue
            if p.grad.shape != p.data.shape:
                raise ValueError(f"{name}: expected a gradient of shape {p.data.shape}, found {p.grad.shape}")
            for what, array in {"data": p.data, **self.state.get(p, {})}.items():
                if isinstance(array, np.ndarray) and not array.flags.writeable:
                    raise ValueError(f"{name}: parameter {n}, of shape {p.shape}, has {what} that is read-only")
        on = SEAM.interceptor
        for group in self.param_groups:
            if type(lr := group["lr"]) is not float and not is_traced(lr):  # set by hand between steps
                group["lr"] = self.options["lr"](type(self).__name__, "lr", lr)
            for p in group["params"]:
                if p.grad is None:
                    continue
                if on is None:
                    self._move(p, p.grad, group)
                else:
                    on.update(self, p, functools.partial(self._move, p, p.grad, group))

    def _move(self, p: Tensor, gradient: Array, group: dict[str, Any]) -> None:
        values = _flat(p.data, p.data)
        self._update(p, values, _flat(gradient, p.data), group)
        _store(values, p.data, p.data)

    def _update(self, p: Tensor, values: Array, g: Array, group: dict[str, Any]) -> None:
        """Update `values`, the flattened values of the parameter p, given their gradient g."""
        raise NotImplementedError

    def prepare(self, p: Tensor, group: dict[str, Any]) -> None:
        """Create the initial state of p, unless it has one."""

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {name: array or number}}, "param_groups": […]}, parameters numbered across groups."""
        index = {p: i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups = [{**g, "params": [index[p] for p in g["params"]]} for g in self.param_groups]
        return {"state": {index[p]: dict(s) for p, s in self.state.items() if p in index}, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load copies of the state and options in such a dictionary, checking all before anything changes.

        KeyError: a part is missing. ValueError: other numbers of groups or parameters, arrays of another shape, or
        an option of PyTorch's that changes the method and is not supported (amsgrad, maximize).
        """
        groups, name = state_dict["param_groups"], type(self).__name__
        mine = [len(g["params"]) for g in self.param_groups]
        theirs = [len(g["params"]) for g in groups]
        if mine != theirs:
            raise ValueError(f"{name}.load_state_dict: expected groups of {mine} parameters, found {theirs}")
        params = [p for g in self.param_groups for p in g["params"]]
        numbers = [i for g in groups for i in g["params"]]
        loaded: dict[Tensor, dict[str, Any]] = {}
        for i, p in zip(numbers, params, strict=True):
            entries = [state_dict["state"][key] for key in dict.fromkeys((i, str(i))) if key in state_dict["state"]]
            if len(entries) > 1:
                raise ValueError(f"{name}.load_state_dict: expected parameter {i} once, found {i} and '{i}'")
            if entry := entries[0] if entries else None:
                if missing := [key for key in self.state_keys if key not in entry]:
                    raise KeyError(f"{name}.load_state_dict: missing {missing} of parameter {i}")
                loaded[p] = {key: _restored(key, value, p, name) for key, value in entry.items() if value is not None}
        if foreign := sorted({k for g in groups for k in ("amsgrad", "maximize") if g.get(k)}):
            raise ValueError(f"{name}.load_state_dict: found {' and '.join(foreign)}, which minidl does not have")
        known = [*self.defaults, "initial_lr"]
        given = [{k: new[k] for k in known if k in new} for new in groups]
        for group, new in zip(self.param_groups, given, strict=True):
            options = {**{k: v for k, v in group.items() if k != "params"}, **new}
            planned: dict[str, Check] = {"lr": number()} if "initial_lr" in options else {}  # may be below 0
            new.update(self._checked(options, **planned))
        for group, new in zip(self.param_groups, given, strict=True):
            group.update(new)
        self.state = loaded


def _restored(key: str, value: Any, p: Tensor, name: str) -> Any:
    array = np.asarray(value)
    if key == "step":
        return int(array)
    if array.shape != p.shape:
        raise ValueError(f"{name}.load_state_dict: expected {key} of shape {p.shape}, found {array.shape}")
    copy = np.empty_like(p.data)
    copy[...] = array
    return copy


def _flat(array: Array, like: Array) -> Array:
    """`array` flattened in the memory order of the parameter `like`; a view where possible."""
    return kernel_array(array.T if like.flags.f_contiguous else array, like.dtype).reshape(-1)


def _store(flat: Array, array: Array, like: Array) -> None:
    """Write `flat` (see `_flat`) back into `array` if it is a copy."""
    if not np.may_share_memory(flat, array):
        array[...] = flat.reshape(like.shape, order="F" if like.flags.f_contiguous else "C")


class SGD(Optimizer):
    """Stochastic gradient descent:  d = ∇L + λθ;  b ← μb + (1 − τ)d  (b = d at first);  θ ← θ − η·b

    lr η, momentum μ, dampening τ, weight_decay λ (coupled: it goes through the momentum), nesterov: θ ← θ − η(d + μb).
    State: `momentum_buffer` b. Sutskever et al. 2013; Nesterov 1983.

    >>> w = minidl.Tensor([4.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     ops.sum(w * w).backward()
    ...     optimizer.step()
    >>> w.data
    array([0.5])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov expects momentum > 0 and dampening 0, "
                f"found momentum {group['momentum']} and dampening {group['dampening']}"
            )

    def prepare(self, p: Tensor, group: dict[str, Any]) -> None:
        if group["momentum"] != 0 and group["dampening"] == 0:  # then the first step is a step from a buffer of 0
            self.state.setdefault(p, {}).setdefault("momentum_buffer", np.zeros_like(p.data))

    def _update(self, p: Tensor, values: Array, g: Array, group: dict[str, Any]) -> None:
        lr, weight_decay = group["lr"], float(group["weight_decay"])
        if group["momentum"] == 0:
            sgd_update(values, g, lr, weight_decay)
            return
        state = self.state.setdefault(p, {})
        share = 1 - group["dampening"] if "momentum_buffer" in state else 1
        buffer = state.setdefault("momentum_buffer", np.zeros_like(p.data))
        options = lr, float(group["momentum"]), float(share), weight_decay, bool(group["nesterov"])
        b = _flat(buffer, p.data)
        sgd_momentum_update(values, g, b, *options)
        _store(b, buffer, p.data)


class Adam(Optimizer):
    """Adam:  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  θ ← θ − η · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε)

    lr η, betas (β₁, β₂), eps ε, weight_decay λ (coupled: g = ∇L + λθ). State: `step` t, `exp_avg` m, `exp_avg_sq` v.
    Kingma and Ba 2015, algorithm 1.

    >>> w = minidl.Tensor([4.0], requires_grad=True)
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> ops.sum(w * w).backward()
    >>> optimizer.step()  # the first step has the length lr, however large the gradient
    >>> w.data.round(6)
    array([3.9])
    """

    decoupled = False
    state_keys = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def prepare(self, p: Tensor, group: dict[str, Any]) -> None:
        if p not in self.state:
            zeros = {"exp_avg": np.zeros_like(p.data), "exp_avg_sq": np.zeros_like(p.data)}
            self.state[p] = {"step": 0, **zeros}

    def _update(self, p: Tensor, values: Array, g: Array, group: dict[str, Any]) -> None:
        self.prepare(p, group)
        state = self.state[p]
        state["step"] = state["step"] + 1
        m, v = _flat(state["exp_avg"], p.data), _flat(state["exp_avg_sq"], p.data)
        options = *map(float, group["betas"]), float(group["eps"]), float(group["weight_decay"]), self.decoupled
        adam_update(values, g, m, v, state["step"], group["lr"], *options, np.finfo(values.dtype).tiny)
        _store(m, state["exp_avg"], p.data)
        _store(v, state["exp_avg_sq"], p.data)


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ − ηλθ before the step, with none in g   (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
