"""Modules made of modules: PyTorch's interface, its state keys, and a shortcut."""

from collections import OrderedDict

import numpy as np
import pytest

from minidl import Tensor, nn, ops

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def three() -> list[nn.Module]:
    return [nn.Dense(3, 3), nn.ReLU(), nn.Dense(3, 3, bias=False)]


def test_a_list_names_its_parameters_by_place():
    layers = nn.ModuleList(three())
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "2.weight"]
    assert len(layers) == 3
    assert list(layers) == [layers[0], layers[1], layers[2]]
    assert layers[-1] is layers[2]
    assert layers[0] in layers
    assert [name for name, _ in layers.named_modules()] == ["", "0", "1", "2"]
    net = nn.Residual(nn.Dense(3, 3))
    net.blocks = layers
    assert "blocks.0.weight" in net.state_dict()


def test_a_list_changes_like_a_list():
    expected = three()
    layers = nn.ModuleList(expected)
    more = [nn.Tanh(), nn.Sigmoid(), nn.GELU()]

    def same() -> None:
        assert list(layers) == expected
        assert [n for n, _ in layers.children()] == [str(i) for i in range(len(expected))]

    same()
    assert layers.append(more[0]) is layers
    expected.append(more[0])
    same()
    layers.extend(more[1:])
    expected.extend(more[1:])
    same()
    for place in (0, 2, -1, 99):
        new = nn.Dense(2, 2)
        layers.insert(place, new)
        expected.insert(place, new)
        same()
    layers[1] = expected[1] = nn.ELU()
    layers[-2] = expected[-2] = nn.ReLU()
    same()
    del layers[1]
    del expected[1]
    same()
    del layers[::3]
    del expected[::3]
    same()
    assert layers.pop() is expected.pop()
    assert layers.pop(0) is expected.pop(0)
    same()
    assert isinstance(layers[1:], nn.ModuleList)
    assert list(layers[1:]) == expected[1:]
    assert list(layers[::-1].children()) == [(str(i), m) for i, m in enumerate(expected[::-1])]
    assert list(layers + more) == expected + more
    same()
    layers += more
    expected += more
    same()
    layers.eval()
    same()
    layers.insert(1, more[0])
    assert layers[1] is layers[2 + len(expected) - 4]


def test_a_list_refuses():
    layers = nn.ModuleList([nn.ReLU()])
    for index in (1, -2):
        for act in (lambda i=index: layers[i], lambda i=index: layers.pop(i), lambda i=index: layers.__delitem__(i),
                    lambda i=index: layers.__setitem__(i, nn.ReLU())):  # fmt: skip
            with pytest.raises(IndexError, match=f"ModuleList: expected an index into 1 modules, found {index}"):
                act()
    with pytest.raises(TypeError, match="ModuleList: expected modules, found 3 in place 1"):
        layers.append(3)
    with pytest.raises(TypeError, match="ModuleList: expected modules, found 'a' in place 2"):
        layers.extend([nn.ReLU(), "a"])
    with pytest.raises(TypeError, match="expected modules, found None"):
        layers.insert(0, None)
    with pytest.raises(NotImplementedError):
        layers(X)
    assert len(layers) == 1


def test_a_sequence_by_names():
    parts = OrderedDict(first=nn.Dense(3, 4), act=nn.ReLU(), last=nn.Dense(4, 2))
    net = nn.Sequential(parts)
    assert list(net.state_dict()) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert net.first is parts["first"]
    np.testing.assert_array_equal(net(X).data, nn.Sequential(*parts.values())(X).data)
    assert list(net[:2].state_dict()) == ["first.weight", "first.bias"]
    net.append(nn.Tanh()).append(nn.Dense(2, 2))
    np.testing.assert_array_equal(net(X).data, net[-1](ops.tanh(nn.Sequential(parts)(X))).data)
    assert list(net.state_dict())[-2:] == ["4.weight", "4.bias"]
    del net[1]
    assert [n for n, _ in net.children()] == ["first", "last", "2", "3"]
    for name in ("training", "forward", "a.b", ""):
        with pytest.raises(KeyError, match="expected a name without dots that is not taken"):
            nn.Sequential({name: nn.ReLU()})


def test_a_dict():
    layers = nn.ModuleDict({"left": nn.Dense(3, 2), "act": nn.ReLU()})
    layers["right"] = nn.Dense(2, 1)
    assert list(layers) == list(layers.keys()) == ["left", "act", "right"]
    assert list(layers.values()) == [layers["left"], layers.act, layers["right"]]
    assert dict(layers.items()) == {k: layers[k] for k in layers}
    assert (len(layers), "act" in layers, "forward" in layers) == (3, True, False)
    assert list(layers.state_dict()) == ["left.weight", "left.bias", "right.weight", "right.bias"]
    layers.eval()
    assert len(layers) == 3
    new = nn.Tanh()
    layers["act"] = new
    assert list(layers) == ["left", "act", "right"]
    assert layers.pop("act") is new
    layers.update([("more", nn.ELU())])
    del layers["left"]
    assert list(layers) == ["right", "more"]
    layers.clear()
    assert len(layers) == 0
    for act in (lambda: layers["gone"], lambda: layers.pop("gone"), lambda: layers.__delitem__("gone")):
        with pytest.raises(KeyError, match="expected one of"):
            act()
    for name in ("keys", "training", "a.b", ""):
        with pytest.raises(KeyError, match=f"expected a name without dots that is not taken, found '{name}'"):
            layers[name] = nn.ReLU()
    with pytest.raises(TypeError, match="ModuleDict: expected names, found 3"):
        layers[3] = nn.ReLU()
    with pytest.raises(TypeError, match="ModuleDict: expected modules, found 'x' under 'a'"):
        layers["a"] = "x"


def test_residual():
    inner, shortcut = nn.Dense(3, 3), nn.Dense(3, 3, bias=False)
    np.testing.assert_array_equal(nn.Residual(inner)(X).data, (Tensor(X) + inner(X)).data)
    both = nn.Residual(inner, shortcut)
    np.testing.assert_array_equal(both(X).data, (shortcut(X) + inner(X)).data)
    assert list(both.state_dict()) == ["module.weight", "module.bias", "shortcut.weight"]
    x = Tensor(X, requires_grad=True)
    nn.Residual(nn.Tanh())(x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 - np.tanh(X) ** 2, rtol=1e-5)
    with pytest.raises(ValueError, match=r"Residual: expected .* in one shape, found \(4, 1\) and \(4, 3\)"):
        nn.Residual(nn.Dense(3, 1))(X)


def test_state_dicts_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests, not a dependency")
    t = torch.nn
    theirs = t.ModuleDict({"a": t.ModuleList([t.Linear(3, 2), t.Linear(2, 2)]),
                           "b": t.Sequential(OrderedDict(one=t.Linear(2, 3), two=t.ReLU()))})  # fmt: skip
    mine = nn.ModuleDict({"a": nn.ModuleList([nn.Dense(3, 2), nn.Dense(2, 2)]),
                          "b": nn.Sequential(OrderedDict(one=nn.Dense(2, 3), two=nn.ReLU()))})  # fmt: skip
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert list(mine.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        expected = theirs["b"](theirs["a"][1](theirs["a"][0](torch.tensor(X))))
        np.testing.assert_allclose(mine["b"](mine["a"][1](mine["a"][0](X))).data, expected.numpy(), atol=1e-6)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in mine.state_dict().items()})
