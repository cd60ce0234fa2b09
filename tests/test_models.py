"""Ready-made models: they take every size of image, learn, compile, and are what the examples build by hand."""

from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import models, nn, ops, optim
from minidl.jit import interpreted
from minidl.models import MODELS, build

OPTIONS = {"mlp": {"hidden": (9,)}, "lenet": {}, "resnet": {}, "lstm": {"hidden": 12}}
every_model = pytest.mark.parametrize("name", MODELS)


def images(shape, n=6):
    return np.random.default_rng(1).random((n, *shape), dtype=np.float32)


@every_model
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 15, 17), (1, 4, 4)], ids=str)
def test_every_model_gives_finite_logits_of_every_size(name, shape):
    model = build(name, shape, 7, **OPTIONS[name])
    logits = model(images(shape)).numpy()
    assert logits.shape == (6, 7)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert len({*map(tuple, logits.round(6))}) == 6  # it looks at the image


@pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT: convolutions as plain Python take minutes to learn")
@every_model
def test_every_model_learns_and_compiles_to_the_same_bits(name):
    def losses(compiled):
        minidl.manual_seed(3)
        model = build(name, (1, 8, 8), 4, **OPTIONS[name])
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        def step(x, y):
            loss = ops.softmax_cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = minidl.compile(step) if compiled else step
        return [run(images((1, 8, 8), 8), np.arange(8) % 4).item() for _ in range(8 if name == "resnet" else 25)]

    found = losses(compiled=False)
    assert found[-1] < 0.6 * found[0]
    assert losses(compiled=True) == found


@every_model
def test_the_same_seed_gives_the_same_weights(name):
    states = []
    for seed in (0, 0, 1):
        minidl.manual_seed(seed)
        states.append(build(name, (1, 8, 8), 3, **OPTIONS[name]).state_dict())
    weights = [key for key in states[0] if key.endswith("weight") and states[0][key].ndim > 1]
    for key, values in states[0].items():
        assert np.array_equal(values, states[1][key]), key
    assert all(not np.array_equal(states[0][key], states[2][key]) for key in weights)


def test_mlp_is_the_stack_that_one_would_write():
    minidl.manual_seed(5)
    expected = nn.Sequential(nn.Flatten(), nn.Dense(12, 7), nn.ReLU(), nn.Dense(7, 6), nn.ReLU(), nn.Dense(6, 4))
    minidl.manual_seed(5)
    model = models.mlp((3, 2, 2), [7, 6], 4)
    assert repr(model) == repr(expected)
    for name, values in expected.state_dict().items():
        assert np.array_equal(model.state_dict()[name], values)
    assert repr(models.mlp((5,), [], 2)) == repr(nn.Sequential(nn.Flatten(), nn.Dense(5, 2)))


def test_lenet_and_resnet_are_those_of_the_examples():
    """The same layers, from the text of the examples: 28×28 is what they are written for."""
    for name, example in (("lenet", "07_lenet.py"), ("resnet", "08_resnet.py")):
        source = (Path(__file__).parents[1] / "examples" / example).read_text("utf-8")
        for line in repr(build(name, (1, 28, 28), 10)).splitlines():
            layer = line.split("): ")[-1].split("(")[0]
            assert f"nn.{layer}(" in source, layer
    assert sum(p.size for p in models.lenet((1, 28, 28), 10).parameters()) == 62_558
    assert models.lenet((1, 28, 28), 10)[7].weight.shape == (120, 400)
    assert models.lenet((1, 8, 8), 10)[7].weight.shape == (120, 64)


def test_lstm_reads_rows_of_all_channels():
    model = models.lstm((2, 3, 4), 5, hidden=6)
    x = images((2, 3, 4))
    rows = np.concatenate([x[:, 0], x[:, 1]], axis=2)  # a row: that of the first channel, then of the second
    _, (h, _) = model.lstm(rows)
    assert np.array_equal(model(x).numpy(), model.output(h[0]).numpy())
    assert (model.input_shape, model.classes, model.hidden) == ((2, 3, 4), 5, 6)


def test_what_cannot_be_built_is_told():
    for name, match in (
        ("lenett", "did you mean 'lenet'"),
        ("vgg", r"\['mlp', 'lenet', 'resnet', 'lstm'\], found 'vgg'$"),
    ):
        with pytest.raises(ValueError, match=match):
            build(name, (1, 8, 8), 10)
    with pytest.raises(TypeError, match=r"expected the options \[\] for lenet, found \['hidden'\]"):
        build("lenet", (1, 8, 8), 10, hidden=3)
    with pytest.raises(TypeError, match=r"expected the options \['hidden'\] for mlp, found \[\]"):
        build("mlp", (1, 8, 8), 10)
    for shape in ((8, 8), (1, 8, 8, 8), (1, 3, 8), (1, 8, 3), (0, 8, 8), (1, 8, 8.0)):
        with pytest.raises(ValueError, match="lenet: expected images"):
            build("lenet", shape, 10)
    with pytest.raises(ValueError, match="resnet: expected images"):
        build("resnet", (1, 0, 4), 10)
    with pytest.raises(ValueError, match="lstm: expected images"):
        build("lstm", (4,), 10)
    with pytest.raises(ValueError, match=r"RowReader: expected images .*found shape \(6, 1, 8, 9\)"):
        models.lstm((1, 8, 8), 3)(images((1, 8, 9)))
