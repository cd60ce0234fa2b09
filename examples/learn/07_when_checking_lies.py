"""7. Kinks and finite differences: checking a gradient, and when checking lies.

By nudging, as all along: f′(x) ≈ (f(x + h) − f(x − h)) / 2h, for every number
there is. It is slow, but it shares no thought with the formula that it checks.
Still it can be wrong where the gradient is right; and worse, it can agree where
the gradient is wrong. Here is how.
"""

import textwrap

import numpy as np

import minidl
from minidl import ops


def slope(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def relu(x):
    return max(x, 0.0)


@minidl.op
def softmax_with_a_slip(z):
    p = np.exp(z) / np.exp(z).sum()
    return p, (lambda dp: -p * (dp - (dp * p).sum()),)  # that minus is wrong


@minidl.op
def square_with_a_slip(x):
    return x * x, (lambda dy: dy * x * x,)  # should be 2·x


print(__doc__)
print("1. The step. The slope of exp x is exp x. A star is a right digit (the median of")
print("   99 points). In float64, and in float32:\n")
digits = {}
for n in range(1, 16):
    for kind in (np.float64, np.float32):
        x = np.linspace(0.5, 1.5, 99, dtype=kind)
        errors = abs(slope(np.exp, x, kind(10.0**-n)).astype(float) / np.exp(x.astype(float)) - 1)
        digits[n, kind] = max(0.0, -np.log10(np.median(errors)))
    stars = ["*" * round(digits[n, kind]) for kind in (np.float64, np.float32)]
    print(f"   h = 1e-{n:02d}   {stars[0]:20s} {stars[1]}".rstrip())
print("""
   Too large a step, and the curve's bend comes in: a tenth of h, a hundredth of
   the error. Too small, and rounding does: f(x + h) and f(x − h) share their
   first digits, and those cancel. Best is near the cube root of the last digit.
""")
best = max(range(1, 16), key=lambda n: digits[n, np.float64])
assert best in (5, 6)
assert digits[best, np.float64] > 9.5
assert abs(digits[2, np.float64] - digits[1, np.float64] - 2) < 0.01
assert digits[15, np.float64] < 2
assert max(digits[n, np.float32] for n in range(1, 16)) < 6

print("2. A kink. At x = 0.000001 max(0, x) has the slope 1, but a step across 0 says")
felt = [slope(relu, 1e-6, h) for h in (1e-7, 1e-5, 1e-3)]
print("   " + ",  ".join(f"{s:.4f} with h = {h}" for s, h in zip(felt, ("0.0000001", "0.00001", "0.001"), strict=True)))
near, far = (bool(minidl.gradcheck(ops.relu, np.array([v]), raise_exception=False)) for v in (1e-6, 0.5))
print(f"""   Does minidl.gradcheck find minidl's relu right? There: {near}. At 0.5: {far}.
   The gradient is right in both places. So check where the function is smooth.
""")
assert np.allclose(felt, [1, 0.55, 0.5005], atol=1e-6)
assert (near, far) == (False, True)

z = np.array([0.3, -1.0, 2.0])
blind = bool(minidl.gradcheck(lambda z: softmax_with_a_slip(z).sum(), z, raise_exception=False))
seeing = bool(minidl.gradcheck(softmax_with_a_slip, z, raise_exception=False))
print(f"""3. A blind question. Does a softmax whose gradient has the wrong sign pass, if
   one checks the slopes of its sum? {blind}. Probabilities add up to 1, whatever z
   is, so their sum has the slope 0 with any sign. If one checks a random mix of
   them? {seeing}. gradcheck by itself always takes such a mix.
""")
assert (blind, seeing) == (True, False)

lucky = minidl.gradcheck(square_with_a_slip, np.array([0.0, 2.0]), raise_exception=False)
report = minidl.gradcheck(square_with_a_slip, z, raise_exception=False)
print(f"""4. A lucky point. Does x² with the slope x², not 2x, pass at 0 and 2? {lucky.ok}:
   there they are the same. At other points? {report.ok}. Here is what it says:""")
print(textwrap.fill(str(report), 78, initial_indent="     ", subsequent_indent="     "))
assert (lucky.ok, report.ok) == (True, False)

print("""
The two with a slip were ops, written here in two lines each. What does it take
to teach minidl an operation that it does not have?""")
