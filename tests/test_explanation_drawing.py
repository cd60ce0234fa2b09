"""Where tensors are drawn, the pictures for papers, and the files: small, whole, or an error and none."""

import html
import math
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cases.explained import GRAPHS, make, residual
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import Tensor, nn, ops
from minidl.explanation import drawing, example, explain
from minidl.explanation.layout import BEND, FAR, _monotone, layout
from minidl.explanation.page import page

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '</text><script>alert("1")</script> & \\ "quoted"'


# --------------------------------------------------------------------------------------- layout


@st.composite
def graphs(draw):
    """Acyclic graphs: every node but the last is used, some twice by the same."""
    count = draw(st.integers(1, 25))
    edges = []
    for y in range(1, count):
        inputs = draw(st.lists(st.integers(0, y - 1), min_size=0, max_size=3))
        edges += [(x, y, slot) for slot, x in enumerate(inputs)]
    return list(range(count)), edges


def check(nodes, edges):
    """What every layout must keep to."""
    found = layout(nodes, edges)
    assert set(found.layers) == set(found.places) == set(nodes)
    assert set(found.bends) == set(edges)
    for x, y, _ in edges:
        assert found.layers[x] < found.layers[y]
    rows = {}
    for n in nodes:
        rows.setdefault(found.layers[n], []).append(found.places[n])
    for places in rows.values():
        places.sort()
        assert all(b - a >= 1 - 1e-9 for a, b in pairwise(places))  # cards do not overlap
    for (x, y, _), bends in found.bends.items():
        layers = [found.layers[x], *(layer for layer, _ in bends), found.layers[y]]
        assert layers == sorted(layers)
    for (x, y, slot), bends in found.bends.items():
        beside = (x, y, slot) in found.beside
        if beside:  # its lane is free of cards
            (first, lane), (last, same) = bends
            assert lane == same
            for n in nodes:
                if first < found.layers[n] < last:
                    assert found.places[n] - lane > 0.5
        else:
            assert len(bends) == found.layers[y] - found.layers[x] - 1
            for layer, place in bends:
                for other in rows.get(int(layer), []):
                    assert abs(other - place) >= (1 + BEND) / 2 - 1e-9  # nor do edges cross cards
    return found


@given(graphs())
@settings(deadline=None)
def test_layouts_overlap_nothing(graph):
    found = check(*graph)
    assert found == layout(*graph)  # the same each time


@pytest.mark.parametrize("name", GRAPHS)
def test_layouts_of_real_graphs(name):
    explanation = explain(make(name)[0])
    check([e.number for e in explanation], [(x, e.number, k) for e in explanation for k, x in enumerate(e.inputs)])


def test_inputs_stand_before_their_first_use():
    found = layout([0, 1, 2, 3], [(0, 2, 0), (2, 3, 0), (1, 3, 1)])
    assert found.layers == {0: 0, 1: 1, 2: 1, 3: 2}


def test_a_chain_is_straight():
    found = layout(list(range(30)), [(i, i + 1, 0) for i in range(29)])
    assert len(set(found.places.values())) == 1


def test_a_weight_used_far_away_has_a_lane():
    steps = FAR + 5
    nodes = list(range(steps + 2))  # 0: the weight, 1: the first state
    edges = [e for y in range(2, steps + 2) for e in ((y - 1, y, 0), (0, y, 1))]
    found = check(nodes, edges)
    assert {e for e in edges if e[0] == 0 and found.layers[e[1]] - found.layers[0] > 1} == found.beside
    assert len({bends[0] for e, bends in found.bends.items() if e in found.beside}) == 1


def test_two_lanes_are_apart():
    count = FAR + 4
    edges = [(i, i + 1, 0) for i in range(2, count)] + [(0, count, 1), (1, count, 2), (0, 3, 3), (1, 3, 4)]
    found = check(list(range(count + 1)), edges)
    lanes = {e[0]: bends[0][1] for e, bends in found.bends.items() if e in found.beside}
    assert len(lanes) == 2
    assert abs(lanes[0] - lanes[1]) > 0.2


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 5)), max_size=20))
@settings(deadline=None)
def test_monotone_is_isotonic_regression(pairs):
    sklearn = pytest.importorskip("sklearn.isotonic", reason="scikit-learn is not installed")
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    found = _monotone(values, weights)
    assert all(b >= a - 1e-12 for a, b in pairwise(found))
    if pairs:
        np.testing.assert_allclose(found, sklearn.isotonic_regression(values, sample_weight=weights), atol=1e-9)


# ------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", GRAPHS)
def test_svg(name):
    explanation = explain(make(name)[0])
    root = ET.fromstring(explanation.svg())
    cards = [g for g in root.findall(f"{SVG}g") if g.find(f"{SVG}title") is not None]
    titles = [g.find(f"{SVG}title").text for g in cards]
    assert titles == [f"{e.name} = {e.call}" if e.call else e.name for e in explanation]
    assert len(root.findall(f"{SVG}path")) == sum(len(e.inputs) for e in explanation)
    wide, tall = float(root.get("width")), float(root.get("height"))
    for g in cards:
        x, y = map(float, g.get("transform")[10:-1].split())
        assert 82 <= x <= wide - 82
        assert 36 <= y <= tall - 36


def test_svg_shows_numbers_and_colours():
    x = Tensor(np.array([1.0, -2.0, 2.0, 0.0, np.nan]), requires_grad=True)
    k = Tensor(-0.12345678, requires_grad=True)
    root = ET.fromstring(explain(ops.sum(x * k)).svg())
    assert "−0.1235" in [t.text for t in root.iter(f"{SVG}text")]
    card = next(g for g in root.iter(f"{SVG}g") if g.findtext(f"{SVG}title") == "x")
    colours = [rect.get("fill") for rect in card.findall(f"{SVG}rect")]
    assert colours[2:6] == ["#8c510a", "#01665e", "#f5f3ee", "#963c96"]  # the least, the most, 0, NaN
    red, green, blue = (int(colours[1][i : i + 2], 16) for i in (1, 3, 5))  # half of the most
    assert 1 < red < 245
    assert 102 < green < 243
    assert 94 < blue < 238


def test_names_in_pictures_are_text():
    x = Tensor(1.0, requires_grad=True)
    explanation = explain(x * 2.0, names={EVIL: x})
    root = ET.fromstring(explanation.svg())
    assert root.find(f".//{SVG}script") is None
    assert EVIL in [t.text for t in root.iter(f"{SVG}title")]
    assert r"& \\ \"quoted\"" in explanation.dot()


@pytest.mark.parametrize("name", GRAPHS)
def test_dot(name):
    explanation = explain(make(name)[0])
    lines = explanation.dot().splitlines()
    assert (lines[0], lines[-1]) == ("digraph backprop {", "}")
    assert sum(" -> " in line for line in lines) == sum(len(e.inputs) for e in explanation)
    assert sum(" [style=" in line for line in lines) == len(explanation)
    for line in lines:
        assert line.replace('\\"', "").count('"') % 2 == 0
    if dot := shutil.which("dot"):
        subprocess.run([dot, "-Tsvg"], input=explanation.dot(), text=True, capture_output=True, check=True)


def test_empty_arrays_and_labels_are_drawn():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    explanation = explain(ops.sum(x) + ops.sum(ops.embedding(np.array([0, 1]), Tensor(np.ones((2, 2)), True))))
    ET.fromstring(explanation.svg())
    assert '"n":[]' in page(explanation)
    assert "(0, 3)" in str(explanation)


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["html", "svg", "dot"])
def test_files(kind, tmp_path):
    explanation = explain(make("shared")[0])
    path = tmp_path / f"picture.{kind}"
    path.write_text("old")
    returned = getattr(explanation, kind)(path)
    text = path.read_text("utf-8")
    assert text.startswith({"html": "<!doctype html>", "svg": "<svg ", "dot": "digraph "}[kind])
    assert returned is None if kind == "html" else returned == text
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    getattr(explanation, kind)(str(path), depth=1)
    assert len(path.read_text("utf-8")) < len(text)


@pytest.mark.parametrize("kind", ["html", "svg", "dot"])
@pytest.mark.parametrize(("place", "error"), [("missing/picture", FileNotFoundError), (".", OSError)])
def test_a_path_that_cannot_be_written(kind, place, error, tmp_path):
    with pytest.raises(error):
        getattr(explain(make("scalar")[0]), kind)(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["html", "svg", "dot"])
def test_too_large_to_draw_leaves_no_file(kind, tmp_path):
    explanation = explain(residual(drawing.LIMIT)[0])
    path = tmp_path / "picture"
    with pytest.raises(
        ValueError, match=r"2,0\d\d tensors are too many to be drawn, at most 2,000 are; .cut\(depth=20\)"
    ):
        getattr(explanation, kind)(path)
    assert not path.exists()
    getattr(explanation, kind)(path, depth=20)
    assert path.exists()
    assert "too many to be drawn" in explanation._repr_html_()


def test_too_large_offers_a_module():
    model = nn.Sequential(*(nn.Dense(1, 1, dtype=np.float64) for _ in range(3)))
    x = model(np.ones((1, 1)))
    for _ in range(drawing.LIMIT):
        x = x + 1.0
    explanation = explain(ops.sum(x), model=model)
    with pytest.raises(ValueError, match=r'or \.cut\(module="0"\) shows a part'):
        explanation.svg()
    assert len(explanation.cut(module="0")) < 10


def test_in_notebooks():
    explanation = explain(make("scalar")[0])
    frame = explanation._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert 'sandbox="allow-scripts"' in frame
    source = frame.partition('srcdoc="')[2].partition('"')[0]
    assert html.unescape(source) == page(explanation)


def test_the_example_program(tmp_path):
    program, path = Path(__file__).parent.parent / "examples" / "15_explain.py", tmp_path / "page.html"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(program.parent.parent), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, str(program), str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Checked: all 8 gradients agree with finite differences." in done.stdout
    assert "without accumulation it would be" in done.stdout
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_the_example_shows_what_it_says():
    explanation = example()
    assert explanation.ok
    assert [e.name for e in explanation if e.kind == "leaf"] == ["w1", "b1", "w2", "b2"]
    assert {"x", "z", "h", "y", "target", "loss"} <= {e.name for e in explanation}
    assert len(explanation["z"].arrives) == 2
    assert all(fault.wrong for fault in explanation.faults.values())
    assert explanation["h"].place.text == "h = z + ops.tanh(z)"
    assert math.isclose(
        explanation["loss"].value, np.mean(np.square(explanation["y"].value - explanation["target"].value))
    )
