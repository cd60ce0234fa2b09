"""6. Softmax and cross-entropy cancel: what is left is p − y.

A net gives a number for each class, its logits z. Softmax makes probabilities
of them, pᵢ = exp zᵢ / Σⱼ exp zⱼ. The loss, cross-entropy, is −ln p[right one].
The slope of the logarithm is 1/p, and all slopes of softmax are p · something:
"""

import numpy as np

from minidl import Tensor, ops


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


def softmax_slopes(p):
    """dpᵢ/dzⱼ = pᵢ·([i = j] − pⱼ): where one logit rises, the other classes lose."""
    return np.diag(p) - np.outer(p, p)


def row(numbers):
    return " ".join(f"{v + 0.0:9.4f}" for v in numbers)


print(__doc__)
z, right = np.array([2.0, -1.0, 0.5]), 1
p, y = softmax(z), np.eye(3)[right]
dp = -y / p  # L = −Σ y·ln p, where y is 1 for the right class and 0 for the others
dz = softmax_slopes(p) @ dp
print("z      =", row(z), f"    logits; class {right} is the right one")
print("p      =", row(p), f"    L = −ln {p[right]:.4f} = {-np.log(p[right]):.4f}")
print("dL/dp  =", row(dp), "    through the logarithm")
for line, comment in zip(softmax_slopes(p), ("", "    times this matrix, dp/dz,", ""), strict=True):
    print(f"         {row(line)}{comment}")
print("dL/dz  =", row(dz), "    is the gradient. And that is")
print("p − y  =", row(p - y))
logits = Tensor(z[None], requires_grad=True)
ops.softmax_cross_entropy(logits, [right]).backward()
print("minidl =", row(logits.grad[0]))
assert np.allclose(dz, p - y, rtol=0, atol=1e-15)
assert np.allclose(logits.grad[0], p - y, rtol=0, atol=1e-15)
print("""
What was predicted less what is true, and no matrix is needed. It adds up to 0:
raising all logits alike changes no probability, so it must not change the loss.

Why not (p − y)², as in the lessons before? Look at the slope in the right logit
while the net grows more and more sure of a wrong class:
""")
assert abs(dz.sum()) < 1e-15
assert np.allclose(softmax(z + 100), p, rtol=1e-12)
print("logits              p of the right     cross-entropy     squared error")
for size in (1.0, 5.0, 10.0):
    p = softmax(np.array([size, -size, 0.0]))
    entropy, squared = (p - y)[right], (softmax_slopes(p) @ (2 * (p - y)))[right]
    print(f"{size:4.0f} {-size:4.0f} {0:4d} {p[right]:18.1e} {entropy:17.6f} {squared:17.1e}")
print("""
The squared error learns least where it is most wrong; p − y says how wrong.
""")
assert entropy < -0.999
assert abs(squared) < 1e-8

z = np.array([1000.0, 0.0])
logits = Tensor(z[None], requires_grad=True)
loss = ops.softmax_cross_entropy(logits, [1])
loss.backward()
with np.errstate(all="ignore"):
    overflown, p = softmax(z), softmax(z - z.max())
    in_steps = softmax_slopes(p) @ (-np.array([0, 1]) / p)
print("It also bears any logits. At z = 1000, 0, when class 1 is right:")
print("p, exp being infinite   ", row(overflown))
print("p, from z − max z       ", row(p))
print("dL/dz from it, in steps ", row(in_steps), "    0 · (1 / 0)")
print("dL/dz from minidl       ", row(logits.grad[0]), f"    and L = {loss.item():g}")
assert np.isnan(overflown).any()
assert np.isnan(in_steps).any()
assert (loss.item(), *logits.grad[0]) == (1000, 1, -1)

print("""
A slip in such algebra raises no error: the net only learns worse. How can one
be sure of a gradient, and how far is that to be trusted?""")
