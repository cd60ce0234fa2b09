"""The divergence and the draws of a variational autoencoder."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, ops


def test_the_divergence_is_an_expectation():
    """KL = E[ln q(z) − ln p(z)] for z drawn from q."""
    rng = np.random.default_rng(0)
    mu, log_var = np.array([0.7, -1.2, 0.0]), np.array([-1.0, 0.5, 0.0])
    z = ops.reparameterise(np.tile(mu, (400_000, 1)), np.tile(log_var, (400_000, 1)), rng).data
    ln_q = -((z - mu) ** 2) / (2 * np.exp(log_var)) - log_var / 2
    kl = ops.gaussian_kl(mu, log_var, "none").data
    np.testing.assert_allclose((ln_q + z**2 / 2).mean(axis=0), kl, atol=0.01)
    assert kl[2] == 0
    assert ops.gaussian_kl(mu, log_var).item() == pytest.approx(kl.sum(), rel=1e-12)
    assert ops.gaussian_kl(mu, log_var, "mean").item() == pytest.approx(kl.mean(), rel=1e-12)


def test_the_divergence_keeps_its_digits_near_its_minimum():
    mu, s = np.zeros(3, np.float32), np.array([1e-3, -1e-4, 3e-5], np.float32)
    t = Tensor(s, requires_grad=True)
    ops.gaussian_kl(mu, t).backward()
    np.testing.assert_allclose(t.grad, np.expm1(s.astype(np.float64)) / 2, rtol=1e-6)


def test_draws_have_their_mean_and_spread():
    shape = (200, 1000)
    mu, log_var = np.full(shape, 2.0, np.float32), np.full(shape, np.log(0.25), np.float32)
    z = ops.reparameterise(mu, log_var, np.random.default_rng(0))
    assert z.dtype == np.float32
    assert z.data.mean() == pytest.approx(2, abs=0.005)
    assert z.data.std() == pytest.approx(0.5, rel=0.005)
    assert np.corrcoef(z.data[:, 0], z.data[:, 1])[0, 1] < 0.3


def test_the_generator_is_the_one_named():
    mu, log_var = np.zeros((3, 4)), np.zeros((3, 4))
    first = ops.reparameterise(mu, log_var, np.random.default_rng(7)).data
    np.testing.assert_array_equal(first, ops.reparameterise(mu, log_var, np.random.default_rng(7)).data)
    np.testing.assert_array_equal(first, np.random.default_rng(7).standard_normal((3, 4), np.float32))
    minidl.manual_seed(3)
    default = ops.reparameterise(mu, log_var).data
    minidl.manual_seed(3)
    np.testing.assert_array_equal(default, ops.reparameterise(mu, log_var).data)


def test_a_compiled_step_draws_the_same_numbers():
    mu, log_var = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
    eager, own = np.random.default_rng(1), np.random.default_rng(1)
    step = minidl.compile(lambda m, s: ops.reparameterise(m, s, own))
    for _ in range(3):
        np.testing.assert_array_equal(step(mu, log_var).data, ops.reparameterise(mu, log_var, eager).data)


@pytest.mark.parametrize("name", ["gaussian_kl", "reparameterise"])
def test_bad_input(name):
    fn = getattr(ops, name)
    with pytest.raises(
        ValueError, match=rf"^{name}: expected mu and log_var of one shape, found \(3, 1\) and \(3, 4\)"
    ):
        fn(np.zeros((3, 1)), np.zeros((3, 4)))
    with pytest.raises(TypeError, match=f"^{name}: expected log_var in float32 or float64, found int64"):
        fn(np.zeros(3), np.zeros(3, int))
    with pytest.raises(ValueError, match="expected reduction"):
        ops.gaussian_kl(np.zeros(3), np.zeros(3), "batchmean")
    with pytest.raises(ValueError, match="at least one element to take the mean of"):
        ops.gaussian_kl(np.zeros(0), np.zeros(0), "mean")
