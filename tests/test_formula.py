"""The one form of an op's docstring: value, gradients, note (see `minidl.core.formula`)."""

import inspect
import re

import numpy as np
import pytest
from cases import CASES

import minidl
from minidl import Tensor, explain, ops
from minidl.core.formula import NO_FORMULA, Formula, formula
from minidl.jit import KERNELS
from minidl.tensor import OPS, op

SYMBOLS = {  # the letters of those inputs that formulas do not call by their names
    "weight": "w W γ weight", "bias": "b β", "input": "x", "target": "t", "arrays": "x", "mu": "μ", "log_var": "ln σ²",
    "labels": "p", "log_probabilities": "x", "attn_mask": "mask",
}  # fmt: skip


def differentiated():
    """Op → the parameters for which some case of the table has a gradient function."""
    found: dict[str, set[str]] = {name: set() for name, call in OPS.items() if call.__module__.startswith("minidl.")}
    for case in CASES:
        stack, seen = [case.fn(*(Tensor(x, requires_grad=True) for x in case.inputs()))], set()
        while stack:
            tensor = stack.pop()
            node = tensor._node
            if node is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            stack += node.inputs
            for name, value in inspect.signature(node.function).bind(*node.args).arguments.items():
                several = value if isinstance(value, list | tuple) else [value]
                if any(x is v for x in node.inputs for v in several):
                    found[node.op].add(name)
    return found


NEEDED = differentiated()


def spelled(text):
    return {part for x in text.gradients for part in (x, x.partition(" ")[2]) if part}


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_every_op_says_its_value_and_the_gradient_of_every_input(name):
    text = formula(OPS[name])
    assert re.match(r"[yLz]\S* ?[^=]*= \S", text.forward)
    assert NEEDED[name] or name == "floor_divide"
    inputs = {re.sub(r"\[.*\]|[ᵢⱼ]", "", x) for x in text.gradients}
    for parameter in NEEDED[name]:
        assert inputs & {*SYMBOLS.get(parameter, parameter).split(" "), SYMBOLS.get(parameter)}, parameter
    for x, gradient in text.gradients.items():
        assert re.fullmatch(rf"dL/d\(?{re.escape(x)}\)? = \S.*", gradient)
    assert "dL/d" not in text.note
    assert set(re.findall(r"dL/d\(?(\S+?)\)? =", inspect.getdoc(OPS[name]))) <= {
        x.split(" ")[-1] for x in spelled(text)
    }


@pytest.mark.parametrize("gap", [" ", "  ", "   ", "        ", "\n", "\n   ", ".\n"])
@pytest.mark.parametrize("comma", [", ", ",  ", "; ", ",\n", " ", "\n"])
def test_spaces_before_a_gradient_do_not_matter(gap, comma):
    def f(a, b):
        pass

    f.__doc__ = f"y = a·b{gap}dL/da = dL/dy·b{comma}dL/db = dL/dy·a  a, b: float"
    expected = "dL/da = dL/dy·b,  dL/db = dL/dy·a"
    assert formula(f) == Formula("y = a·b", expected, "a, b: float")
    assert formula(f).gradients == {"a": "dL/da = dL/dy·b", "b": "dL/db = dL/dy·a"}


FORMS = {  # docstring: (value, gradients, note)
    "y = x.  dL/dx = dL/dy.": ("y = x", ["dL/dx = dL/dy"], ""),
    "y=2*x  dL/dx=2*dL/dy": ("y=2*x", ["dL/dx=2*dL/dy"], ""),
    "y[i] += x[i, 2]. dL/dx[i] = dL/dy[i]": ("y[i] += x[i, 2]", ["dL/dx[i] = dL/dy[i]"], ""),
    "y = max x. dL/dx = dL/dy where y = x, else 0": ("y = max x", ["dL/dx = dL/dy where y = x, else 0"], ""),
    "y = ⌊x⌋   x: float": ("y = ⌊x⌋", [], "x: float"),
    "y = ⌊x⌋": ("y = ⌊x⌋", [], ""),
    "y = s·x   s: slope   dL/dx = s·dL/dy   x: float": ("y = s·x", ["dL/dx = s·dL/dy"], "s: slope  x: float"),
    "y = x\n\nMore.\n\ndL/dx = dL/dy. And more.": ("y = x", ["dL/dx = dL/dy"], ""),
    "y = x·w   dL/dx = dL/dy·w\n\ndL/d(ln w) = dL/dy·x": ("y = x·w", ["dL/dx = dL/dy·w", "dL/d(ln w) = dL/dy·x"], ""),
    "y = x   dL/dx = dL/dy · 0.5": ("y = x", ["dL/dx = dL/dy · 0.5"], ""),
    # not in the form: no formula, and what it says is the note
    "Doubles its input.": ("", [], "Doubles its input."),
    "Doubles x, with eps = 1e-5.   dL/dx = 2": ("", [], "Doubles x, with eps = 1e-5.   dL/dx = 2"),
    "dL/dx = dL/dy": ("", [], "dL/dx = dL/dy"),
    "y == x": ("", [], "y == x"),
    "": ("", [], ""),
    "  \n ": ("", [], ""),
}


@pytest.mark.parametrize("text", FORMS)
def test_the_form(text):
    def f(x):
        pass

    f.__doc__ = text
    forward, gradients, note = FORMS[text]
    assert formula(f) == (forward, ",  ".join(gradients), note)
    assert list(formula(f).gradients.values()) == gradients
    f.__doc__ = None
    assert formula(f) == NO_FORMULA


def test_every_kernel_has_a_title_on_one_line():
    for name, kernel in KERNELS.items():
        if kernel.__module__.startswith("minidl."):
            title = formula(kernel.py_func).title
            assert title.splitlines() == [title], name


@pytest.fixture
def user_op():
    def make(doc):
        def doubled_(x):
            return 2 * x, (lambda dy: 2 * dy,)

        doubled_.__doc__ = doc
        return op(doubled_)

    yield make
    OPS.pop("doubled_", None)


def loss_of(f):
    x = Tensor([1.0, 2.0], requires_grad=True)
    return x, ops.sum(f(x))


def test_a_user_s_op_shows_its_formula_wherever_ops_are_shown(user_op):
    f = user_op("y = 2x. dL/dx = 2·dL/dy")
    assert "y = 2x   dL/dx = 2·dL/dy" in str(explain(loss_of(f)[1]))
    source = compiled_source(f)
    assert "# doubled_: y = 2x\n" in source


@pytest.mark.parametrize("doc", ["Doubles x.", "dL/dx = 2", None, "", "no\rreturn 1/0\x0craise"])
def test_a_user_s_op_without_the_form_is_shown_without_a_formula(user_op, doc):
    f = user_op(doc)
    explanation = str(explain(loss_of(f)[1]))
    assert "doubled_(x" in explanation
    source = compiled_source(f)
    assert f"# doubled_{': ' if doc else ''}{' '.join((doc or '').splitlines())}\n" in source


def compiled_source(f):
    @minidl.compile
    def step(x):
        w.grad = None
        y = ops.sum(f(w * x))
        y.backward()
        return y

    w = Tensor([1.0, 3.0], requires_grad=True)
    step(np.array([1.0, 2.0]))
    return step.source
