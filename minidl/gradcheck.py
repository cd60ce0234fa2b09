"""Check gradients, element by element, against finite differences of the function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl.tensor import FLOATS, Array, ArrayLike, Tensor

_WEIGHTS = (3 / 4, -3 / 20, 1 / 60)  # of the sixth-order central difference
POINTS = tuple(range(1, len(_WEIGHTS) + 1))  # the steps evaluated to each side of x


class GradcheckError(AssertionError):
    """A gradient differs from its finite difference; `report` says where and by how much."""

    def __init__(self, report: GradcheckReport) -> None:
        super().__init__(str(report))
        self.report = report


class GradcheckReport(NamedTuple):
    """The result of `gradcheck`; truthy if all gradients are right.

    ok          whether all errors are within tolerance
    checked     the number of elements compared
    worst       the name and index of the element with the largest error, e.g. "input 0[2, 1]"
    gradient    backward's value there
    expected    the finite difference there
    error       |gradient − expected| / (atol + rtol·|expected|): 1 is the limit
    """

    ok: bool
    checked: int
    worst: str
    gradient: float
    expected: float
    error: float

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "gradients agree with" if self.ok else "gradients differ from"
        return (
            f"{verdict} finite differences at {self.checked} elements; the worst is {self.worst}: "
            f"backward gives {self.gradient:.10g}, finite differences {self.expected:.10g} "
            f"({self.error:.3g} of the tolerance)"
        )


def gradcheck(
    fn: Callable[..., Any],
    *inputs: ArrayLike,
    eps: float = 1e-5,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    generator: np.random.Generator | None = None,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Check backward through `fn` at `inputs` against central differences of sixth order, in float64.

    The function checked is L = Σ g·fn(inputs), with a random normal g (a plain sum would be blind to
    outputs with a constant sum, such as softmax).

    fn          an op, a layer or model (its parameters are checked too), or any function of Tensors that
                returns a Tensor; deterministic, and smooth within 3·eps of the inputs
    inputs      float arrays and Tensors are differentiated, float32 ones as float64; others are passed on
    eps         the step
    atol, rtol  every element must satisfy |gradient − difference| ≤ atol + rtol·|difference|
    generator   for g (default: a fixed seed)

    Returns a report that names the worst element. GradcheckError (an AssertionError) if an element is off
    and `raise_exception`; ValueError if there is nothing to check or fn is not deterministic.

    >>> report = minidl.gradcheck(ops.tanh, np.array([0.3, -1.2]))
    >>> report.ok, report.checked
    (True, 2)
    """
    variables, arguments, parameters = _variables(fn, inputs)
    if not variables:
        raise ValueError("gradcheck: expected at least one float input or parameter, found none")
    kept = [(p, p.data, p.grad, p.requires_grad) for p in parameters]
    try:
        for p in parameters:
            p.data, p.grad, p.requires_grad = p.data.astype(np.float64), None, True
        y = fn(*arguments)
        g = (generator or np.random.default_rng(0)).normal(size=y.shape)

        def loss() -> float:
            return float(np.sum(fn(*arguments).numpy() * g))

        first = loss()
        if not _same(first, loss()):
            raise ValueError("gradcheck: fn gives different values for the same input; fix its generator's seed")
        y.backward(g)
        found = {name: np.zeros(t.shape) if t.grad is None else t.grad.copy() for name, t in variables.items()}
        return _compare(variables, found, loss, eps, atol, rtol, raise_exception)
    finally:
        for p, data, grad, requires_grad in kept:
            p.data, p.grad, p.requires_grad = data, grad, requires_grad


def _variables(fn: Any, inputs: tuple[ArrayLike, ...]) -> tuple[dict[str, Tensor], list[Any], list[Tensor]]:
    """The variables to differentiate by, by name; the arguments for fn; the model's own parameters."""
    variables: dict[str, Tensor] = {}
    arguments: list[Any] = []
    for i, x in enumerate(inputs):
        values = x.data if isinstance(x, Tensor) else x
        if isinstance(values, np.ndarray) and values.dtype.newbyteorder("=") in FLOATS:
            x = variables[f"input {i}"] = Tensor(np.array(values, dtype=np.float64, order="K"), requires_grad=True)
        arguments.append(x)
    named: dict[str, Tensor] = dict(fn.named_parameters()) if hasattr(fn, "named_parameters") else {}
    return variables | named, arguments, list(named.values())


def _compare(
    variables: dict[str, Tensor],
    found: dict[str, Array],
    loss: Callable[[], float],
    eps: float,
    atol: float,
    rtol: float,
    raise_exception: bool,
) -> GradcheckReport:
    worst, checked = ("", 0.0, 0.0, -1.0), 0
    for name, tensor in variables.items():
        for index, expected in _differences(tensor.data, loss, eps):
            gradient = float(found[name][index])
            error = float(abs(gradient - expected) / (atol + rtol * abs(expected)))
            if np.isnan(error):  # NaN and infinity are right if both agree
                error = 0.0 if _same(gradient, expected) else np.inf
            checked += 1
            if error > worst[3]:
                worst = (f"{name}{list(index) if index else ''}", gradient, expected, error)
    report = GradcheckReport(bool(worst[3] <= 1), checked, *worst)
    if raise_exception and not report:
        raise GradcheckError(report)
    return report


def _differences(x: Array, loss: Callable[[], float], eps: float) -> Iterator[tuple[tuple[int, ...], float]]:
    """(index, dL/dx[index]) for every element, by moving it there and back."""
    for index in np.ndindex(x.shape):
        value = x[index]
        step = step_at(float(value), eps)
        losses = []
        for i in (*POINTS, *(-i for i in POINTS)):
            x[index] = value + i * step
            losses.append(loss())
        x[index] = value
        yield index, central_difference(losses[: len(POINTS)], losses[len(POINTS) :], step)


def step_at(x: float, eps: float) -> float:
    """The step h of finite differences at x: eps, relative to x if that is large."""
    return eps * max(1.0, abs(x)) if np.isfinite(x) else eps


def central_difference(above: Sequence[float], below: Sequence[float], step: float) -> float:
    """f′(x) ≈ Σ wᵢ (f(x + ih) − f(x − ih)) / h for i = 1, 2, 3: exact for polynomials up to the sixth degree.

    above, below   f(x + ih) and f(x − ih), for each i of POINTS
    step           h
    """
    return sum(w * (a - b) for w, a, b in zip(_WEIGHTS, above, below, strict=True)) / step


def _same(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))
