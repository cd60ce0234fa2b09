"""Three nets that do not learn, and what `minidl.watch` says about them. A few seconds on the built-in digits.

    python 18_watch_a_run.py [PICTURE.png]      # with a name: draws the first sick net's run (takes matplotlib)

Each net has one illness, and its loss alone would not tell which. The fourth has none, and nothing is said of it.
"""

import sys
import textwrap

import minidl
from minidl import data, nn, optim
from minidl.nn import init
from minidl.train import fit
from minidl.watch import Watch

train, _ = data.load("digits")


def deep(activation, spread):
    """Nine layers whose weights begin with this standard deviation; None: as they come."""
    layers = [nn.Flatten(), nn.Dense(64, 32), activation()]
    for _ in range(7):
        layers += [nn.Dense(32, 32), activation()]
    model = nn.Sequential(*layers, nn.Dense(32, 10))
    for p in model.parameters():
        if spread is not None and p.ndim == 2:
            init.normal_(p, 0, spread)
    return model


def shallow(bias):
    model = nn.Sequential(nn.Flatten(), nn.Dense(64, 32), nn.ReLU(), nn.Dense(32, 10))
    init.constant_(model[1].bias, bias)
    return model


def watched(title, model, rate):
    watch = Watch(every=25)
    history = fit(
        model, train, epochs=4, optimizer=optim.SGD(model.parameters(), lr=rate), callbacks=[watch], compile=False,
        verbose=False,
    )  # fmt: skip
    print(f"{title}: loss {history['loss'][-1]:.3f} after {watch.steps[-1]} steps")
    for sentence in watch.sentences or ["nothing wrong"]:
        print(textwrap.fill(sentence, 100, initial_indent="  ", subsequent_indent="  "))
    print()
    return watch


minidl.manual_seed(0)
vanishing = watched("small weights, many tanh", deep(nn.Tanh, 0.01), 0.1)
saturated = watched("large weights, many tanh", deep(nn.Tanh, 2.0), 0.1)
dead = watched("a bias of -50 before a ReLU", shallow(-50.0), 0.1)
healthy = watched("none of this", shallow(0.0), 0.1)

assert {f.kind for f in vanishing.findings} == {"vanishing", "stuck"}
assert {f.layer for f in saturated.findings if f.kind == "saturated"} >= {"2", "4", "6"}
assert [f.layer for f in dead.findings if f.kind == "dead"] == ["2"]
assert not healthy.findings

print(healthy)
if len(sys.argv) > 1:
    vanishing.plot(sys.argv[1])
    print(f"\nthe run of the first is drawn in {sys.argv[1]}")
