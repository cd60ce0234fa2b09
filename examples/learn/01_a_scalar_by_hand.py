"""1. A scalar by hand: what a gradient is, and how the chain rule finds it.

A neuron multiplies its input by a weight, adds a bias and bends the result:
y = tanh(w·x + b). We want y to be t; the loss L = (y − t)² says how far off it
is. Which way should w and b move, and how far? This takes nothing but Python
and one fact of calculus: along a chain of operations, slopes multiply.
"""

from math import tanh

x, t = 2.0, -0.5  # given: the input, and what should come out
w, b = 0.5, -0.3  # ours to change


def loss(w, b):
    return (tanh(w * x + b) - t) ** 2


# Forward: one operation a line.
p = w * x
z = p + b
y = tanh(z)
e = y - t
L = e * e

# Backward: the same lines from the last to the first. dv is short for dL/dv: how much L grows for each unit that v
# grows. Each line multiplies what has arrived so far by the slope of its own operation, and knows of nothing else.
dL = 1.0
de = dL * 2 * e  #        L = e·e      has the slope 2e
dy = de * 1  #            e = y − t    has the slope 1
dz = dy * (1 - y * y)  #  y = tanh z   has the slope 1 − tanh² z
dp = dz * 1  #            z = p + b    has the slope 1 in p …
db = dz * 1  #                         … and 1 in b
dw = dp * x  #            p = w·x      has the slope x in w

print(__doc__)
print("forward, read down     backward, read up: what arrives × the line's own slope")
print(f"p = w·x    = {p:7.4f}   dL/dw = dL/dp · x              = {dw:.4f}")
print(f"z = p + b  = {z:7.4f}   dL/dp = dL/dz · 1,  dL/db too  = {dp:.4f}, {db:.4f}")
print(f"y = tanh z = {y:7.4f}   dL/dz = dL/dy · (1 − y²)       = {dz:.4f}")
print(f"e = y − t  = {e:7.4f}   dL/dy = dL/de · 1              = {dy:.4f}")
print(f"L = e·e    = {L:7.4f}   dL/de = dL/dL · 2e             = {de:.4f}")

# Is that true? A slope can be felt without any calculus: move the number a little, and see how far L moves.
h = 0.000001
felt_w = (loss(w + h, b) - loss(w - h, b)) / (2 * h)
felt_b = (loss(w, b + h) - loss(w, b - h)) / (2 * h)
print(f"""
Nudge w by a millionth, and L moves {felt_w:.4f} times as far; nudge b, and it moves
{felt_b:.4f} times as far. So dL/dw and dL/db are right. But nudging takes two
runs for each parameter, and going backward takes one pass for all of them.""")
assert abs(felt_w - dw) < 1e-8
assert abs(felt_b - db) < 1e-8

# What it is good for: a small step against the gradient makes L smaller, by about what the slopes say.
rate = 0.01
promised = -rate * (dw * dw + db * db)
moved = loss(w - rate * dw, b - rate * db) - L
print(f"""
A step of {rate} times the gradient, downhill, should change L by {promised:.4f}.
It changes L by {moved:.4f}. The difference is the bend of the curve, which a
slope does not see; so one takes small steps, and many:
""")
assert abs(moved / promised - 1) < 0.05

print("step        w        b        y        L")
for step in range(21):
    y = tanh(w * x + b)
    L = (y - t) ** 2
    if step % 4 == 0:
        print(f"{step:4d}  {w:7.4f}  {b:7.4f}  {y:7.4f}   {L:.6f}")
    dz = 2 * (y - t) * (1 - y * y)
    w, b = w - 0.05 * dz * x, b - 0.05 * dz
assert L < 1e-5

print(f"""
The neuron has learnt to turn {x} into {t}. Large nets learn in the same way.

Each backward line needed only its own forward line and what had arrived. Must
we write them, or could numbers remember how they were made, and do it alone?""")
