"""Ops for variational autoencoders, beside `binary_cross_entropy_with_logits` (Kingma and Welling 2014)."""

from __future__ import annotations

import numpy as np

from minidl.core.tracing import normal
from minidl.ops.elementwise import Result
from minidl.ops.inputs import check_reduction, floating, reduced
from minidl.random import default_generator
from minidl.tensor import Array, ArrayLike, op


def _gaussian(mu: ArrayLike, log_var: ArrayLike) -> tuple[Array, Array]:
    """Both as float arrays of one shape: (N, 1) against (N, D) would broadcast silently."""
    m, s = floating(mu, "mu"), floating(log_var, "log_var")
    if m.shape != s.shape:
        raise ValueError(f"expected mu and log_var of one shape, found {m.shape} and {s.shape}")
    return m, s


@op
def gaussian_kl(mu: ArrayLike, log_var: ArrayLike, reduction: str = "sum") -> Result:
    """L = (μ² + σ² − ln σ² − 1) / 2, the KL divergence of N(μ, σ²) from N(0, 1).   dL/dμ = μ,  dL/d(ln σ²) = (σ² − 1)/2

    Each times dL/dy; in nats. Kingma and Welling 2014, appendix B.

    mu, log_var   μ and ln σ²: float, of one shape
    reduction     "sum" over all elements, "mean", or "none"; a sum divided by the batch is the divergence per example

    ValueError: shapes that differ, or an empty mean.
    """
    m, s = _gaussian(mu, log_var)
    check_reduction(reduction, m.shape)
    excess = np.expm1(s)  # σ² − 1 without losing digits near σ = 1
    scale = 1 / m.size if reduction == "mean" else 1.0
    beyond = np.where(np.isinf(excess), excess, excess - s)  # also for σ = ∞
    return reduced(0.5 * (m * m + beyond), reduction), (
        lambda dy: m * (dy * scale),
        lambda dy: excess * (dy * (0.5 * scale)),
    )


@op
def reparameterise(mu: ArrayLike, log_var: ArrayLike, generator: np.random.Generator | None = None) -> Result:
    """z = μ + σ·ε with ε drawn from N(0, 1), so z is from N(μ, σ²).   dL/dμ = dL/dz,  dL/d(ln σ²) = dL/dz · σ·ε/2

    mu, log_var   μ and ln σ²: float, of one shape. Kingma and Welling 2014, section 2.4
    generator     draws ε (default: minidl's own, see `minidl.manual_seed`)

    ValueError: other shapes.
    """
    m, s = _gaussian(mu, log_var)
    change = np.exp(0.5 * s) * normal(generator or default_generator(), m.shape, m)
    return m + change, (lambda dy: dy, lambda dy: dy * (0.5 * change))
