"""8. An op of your own: a ReLU without a kink, whose bend is learnt.

A function of arrays that returns its value and, for each input, the function
that carries a gradient back: what lesson 5 kept in made_from. Let it be
squareplus (Barron 2021), y = (x + r) / 2, where r = √(x² + s²). With s = 0 that
is relu(x); with a larger s it bends more gently. Both x and s get a gradient:

    dr/dx = x/r,  so dy/dx = (1 + x/r) / 2 = y/r
    dr/ds = s/r,  so dy/ds = s/2r
"""

import numpy as np

import minidl
from minidl import Tensor, nn, ops, optim


@minidl.op
def squareplus(x, s):
    """y = (x + r) / 2,  r = √(x² + s²).   dL/dx = dL/dy · y/r,  dL/ds = dL/dy · s/2r"""
    r = np.sqrt(x * x + s * s)
    y = (x + r) / 2
    return y, (lambda dy: dy * y / r, lambda dy: dy * s / (2 * r))


@minidl.op
def forgetful(x, s):
    """The same, but that the 2 is missing from dL/ds."""
    r = np.sqrt(x * x + s * s)
    y = (x + r) / 2
    return y, (lambda dy: dy * y / r, lambda dy: dy * s / r)


print(__doc__)
x = np.array([-4.0, -2, -1, 0, 1, 2, 4])
print("x             ", "".join(f"{v:8.0f}" for v in x))
for s in (0.01, 1.0, 2.0):
    print(f"y where s = {s:<4g}", "".join(f"{v:8.4f}" for v in squareplus(x, s).numpy()))
assert abs(squareplus(x, 0.01).numpy() - ops.relu(x).numpy()).max() < 0.006
assert squareplus(0.0, 2.0).item() == 1.0

# Is it right? At random points, as lesson 7 taught, and with an s for each of 3 columns: the engine adds up over rows.
rng = np.random.default_rng(0)
x, s = rng.normal(size=(5, 3)), rng.uniform(0.5, 2, size=3)
report = minidl.gradcheck(squareplus, x, s)
slip = minidl.gradcheck(forgetful, x, s, raise_exception=False)
print(f"""
Checked at {report.checked} numbers, 15 of x and 3 of s: the largest error is {report.error:.4f} of what
is tolerated. One that forgets the 2 in s/2r is found out at {slip.worst}, the
second of s: backward says {slip.gradient:.4f} and nudging {slip.expected:.4f}.""")
assert report.ok
assert report.checked == 18
assert not slip.ok
assert abs(slip.gradient / slip.expected - 2) < 1e-6


class Squareplus(nn.Module):
    """A layer with one s for each neuron. A Tensor that requires a gradient is a parameter; nothing else is needed."""

    def __init__(self, width):
        self.s = Tensor(np.ones(width, np.float32), requires_grad=True)

    def forward(self, x):
        return squareplus(x, self.s)


minidl.manual_seed(0)
bend = Squareplus(16)
model = nn.Sequential(nn.Dense(1, 16), bend, nn.Dense(16, 1))
optimizer = optim.Adam(model.parameters(), lr=0.02)
x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
losses = []
for _ in range(500):
    loss = ops.mse(model(x), np.sin(4 * x))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
bends = abs(bend.s.data)
print(f"""
In a net that learns sin 4x, the loss goes from {losses[0]:.4f} to {losses[-1]:.6f}. The 16
bends, all 1 at first, have found their own sizes, from {bends.min():.2f} to {bends.max():.2f}.

NumPy went over x five times for one y, with a new array each time. What if one
plain loop did it all at once: would that not be a hundred times slower?""")
assert losses[-1] < 0.01 * losses[0]
assert np.ptp(bends) > 0.1
