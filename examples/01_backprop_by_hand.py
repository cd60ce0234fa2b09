"""Backpropagation through a two-layer net, every gradient written out; then the same by the engine.

x (N, 3) → z = x·W1ᵀ + b1 → h = max(0, z) → logits = h·W2ᵀ + b2 → L = mean cross-entropy
"""

import numpy as np

from minidl import Tensor, ops

rng = np.random.default_rng(0)
N, inputs, hidden, classes = 5, 3, 4, 2
x, labels = rng.normal(size=(N, inputs)), np.array([0, 1, 1, 0, 1])
W1, b1 = rng.normal(size=(hidden, inputs)), np.zeros(hidden)
W2, b2 = rng.normal(size=(classes, hidden)), np.zeros(classes)

# Forward, keeping what the way back will need.
z = x @ W1.T + b1
h = np.maximum(z, 0)
logits = h @ W2.T + b2
p = np.exp(logits - logits.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)  # softmax: the predicted probabilities
L = -np.log(p[np.arange(N), labels]).mean()

# Backward: dv stands for dL/dv. Each line is the chain rule for one line above, in reverse.
dlogits = p.copy()
dlogits[np.arange(N), labels] -= 1  # the derivatives of softmax and logarithm cancel to p − onehot,
dlogits /= N  #                        and the mean divides by N
dW2 = dlogits.T @ h
db2 = dlogits.sum(axis=0)  # b2 was added to every row: its gradient is the sum over the rows
dh = dlogits @ W2
dz = np.where(z > 0, dh, 0)  # where the ReLU was shut, nothing comes through
dW1 = dz.T @ x
db1 = dz.sum(axis=0)

# The same by the engine.
tW1, tb1, tW2, tb2 = (Tensor(v, requires_grad=True) for v in (W1, b1, W2, b2))
loss = ops.softmax_cross_entropy(ops.dense(ops.relu(ops.dense(x, tW1, tb1)), tW2, tb2), labels)
loss.backward()

print(f"loss    by hand {L:.15f}   engine {loss.item():.15f}")
for name, by_hand, tensor in [("W1", dW1, tW1), ("b1", db1, tb1), ("W2", dW2, tW2), ("b2", db2, tb2)]:
    difference = np.abs(by_hand - tensor.grad).max()
    print(f"dL/d{name}  largest difference {difference:.1e} of values up to {np.abs(by_hand).max():.2f}")
    assert difference < 1e-15

# Not always 0: a fused multiply-add rounds a·b + c once where NumPy may round twice. The last bit of a
# float64 is worth 2.2e-16 of a value around 1, and nothing here is off by more than a few of them.
print("The gradients agree to the last bits of float64.")
