"""The page in a real browser: its numbers are the engine's, for every tensor of every graph, right ones and wrong."""

import html
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases.explained import GRAPHS, make, residual

from minidl import Tensor, graph, ops
from minidl.explanation import explain
from minidl.explanation.page import page
from minidl.jit import interpreted

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
]
PROBE = (Path(__file__).parent / "cases" / "explained_probe.js").read_text("utf-8")
WATCH = """<script>window.errors = [];
addEventListener("error", (e) => errors.push(String(e.message || e.target?.outerHTML)), true);
addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => errors.push("blocked " + e.blockedURI));
console.error = console.warn = (...said) => errors.push(said.join(" "));</script>"""
EVIL = "</script><img src=x onerror=window.hacked=1><script>window.hacked=2</script>"


def explanations():
    """Every graph, and one that is evil."""
    made = {}
    for name in GRAPHS:
        loss, model = make(name)
        made[name] = (loss, explain(loss, check=True, model=model))
    x = Tensor([1.0, np.nan, np.inf, -0.0], requires_grad=True)
    loss = ops.sum(x * 2.0)  # </script><script>window.hacked=3</script>
    made["evil"] = (loss, explain(loss, names={EVIL: x, "<b>loss</b> & \u2028": loss}))
    x = Tensor([2.0], requires_grad=True)
    loss, model = make("convolution")
    made["cut by module"] = (loss, explain(loss, check=True, model=model).cut(module="1"))
    made["cut by depth"] = (loss, made["attention"][1].cut(depth=4))
    made["wide " * 3] = (x, explain(ops.sum(x * 1e-30), names={"a_name_that_is_much_too_long_for_its_card": x}))
    return made


def probed(explanation) -> str:
    """The page, with the probe in it."""
    text = page(explanation)
    assert text.count("<head>") == text.count("</body>\n</html>") == 1
    text = text.replace("<head>", "<head>" + WATCH)
    end = f"<script>{PROBE}\nparent.done(window.frameElement.title, probe());</script></body>\n</html>"
    return text.replace("</body>\n</html>", end)


def browse(pages: dict[str, str], folder: Path, width: int = 1280) -> dict[str, dict]:
    """What the probe reports of each page: all in one browser, each in a frame of its own."""
    frames = "".join(
        f'<iframe title="{name}" srcdoc="{html.escape(text)}" style="width:{width}px;height:800px;border:0"></iframe>'
        for name, text in pages.items()
    )
    script = (
        "const found = {}; function done(name, said) { found[name] = said; probe.textContent = JSON.stringify(found); }"
    )
    file = folder / "pages.html"
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><pre id="probe"></pre>'
        f"<script>{script}</script>{frames}",
        "utf-8",
    )
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom"]
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    done = subprocess.run(
        [*command, file.as_uri()], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    _, found, rest = done.stdout.partition('<pre id="probe">')
    assert found, done.stderr[-2000:]
    said = json.loads(html.unescape(rest.partition("</pre>")[0]) or "{}")
    assert set(said) == set(pages), f"{set(pages) - set(said)} did not finish: {done.stderr[-2000:]}"
    return said


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
every_graph = pytest.mark.parametrize("name", GRAPHS)


@pytest.fixture(scope="module")
def explained():
    return explanations()


@pytest.fixture(scope="module")
def said(explained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return browse({name: probed(explanation) for name, (_, explanation) in explained.items()}, folder)


@pytest.fixture(scope="module")
def said_on_a_phone(explained, tmp_path_factory):
    few = ("shared", "convolution", "wide " * 3)
    folder = tmp_path_factory.mktemp("phone")
    return browse({name: probed(explained[name][1]) for name in few}, folder, width=360)


def same(shown, array) -> None:
    """The numbers on the page are the array's, to the last digit of its dtype."""
    if isinstance(shown, dict):  # only a summary is shown
        x = array.astype(np.float64).reshape(-1)
        expected = [x.mean(), x.std(), x.min(), x.max()]
        np.testing.assert_array_equal([float(v) for v in shown["summary"]], expected)
        return
    numbers = np.array([float(text) for text in shown])
    expected = np.array([float(str(v)) for v in array.reshape(-1)])
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(numbers.astype(array.dtype), array.reshape(-1))


# --------------------------------------------------------------------------------- in the browser


@needs_browser
@every_graph
def test_the_pages_numbers_are_the_engines(name, said, explained):
    loss, explanation = explained[name]
    shown = said[name]["tensors"]
    assert list(shown) == [e.name for e in explanation]
    tensors = graph.tensors(loss)
    for t in tensors:
        t.retain_grad()
        t.grad = None
    loss.backward(retain_graph=True)
    for t in tensors:
        entry = explanation[t]
        same(shown[entry.name]["value"], t.data)
        same(shown[entry.name]["gradient"], t.grad)
    for entry in explanation:
        same(shown[entry.name]["value"], entry.value)
        passes = shown[entry.name]["passes"]
        assert [to for to, _ in passes] == [explanation.entries[p.x].name for p in entry.passes]
        for (_, numbers), passed in zip(passes, entry.passes, strict=True):
            same(numbers, passed.gradient)


@needs_browser
@every_graph
def test_the_wrong_numbers_are_those_of_the_faults(name, said, explained):
    explanation = explained[name][1]
    for kind, fault in explanation.faults.items():
        shown = said[name]["faults"][kind]
        assert not shown["hidden"]
        assert (f"{len(fault.wrong)} of " in shown["said"]) if fault.wrong else ("does no harm" in shown["said"])
        for entry in explanation:
            if entry.kind != "constant":
                same(shown["tensors"][entry.name]["gradient"], fault.gradients[entry.number])
                assert shown["tensors"][entry.name]["wrong"] == (entry.number in fault.wrong)
            for (_, numbers), passed in zip(shown["tensors"][entry.name]["passes"], entry.passes, strict=True):
                same(numbers, fault.passed[entry.number, passed.slot])
    right = said[name]["faults"]["right"]
    assert right["hidden"]
    assert {n: t["gradient"] for n, t in right["tensors"].items()} == {
        n: t["gradient"] for n, t in said[name]["tensors"].items()
    }


@needs_browser
@pytest.mark.parametrize("name", ["scalar", "meeting"])
def test_the_chain_rule_in_numbers(name, said, explained):
    explanation = explained[name][1]
    for kind in ("right", *explanation.faults):
        for entry in explanation:
            used = explanation.faults[kind].used.get(entry.number) if kind in explanation.faults else entry.gradient
            expected = [(float(used), float(p.derivative)) for p in entry.passes]
            shown = [
                e.removesuffix(" =").split(" · ")
                for e in said[name]["faults"][kind]["tensors"][entry.name]["equations"]
            ]
            assert [(float(a), float(b)) for a, b in shown] == expected


@needs_browser
@pytest.mark.parametrize("name", [*GRAPHS, "evil", "wide " * 3, "cut by module", "cut by depth"])
def test_no_error_and_no_request(name, said):
    assert said[name]["errors"] == []
    assert said[name]["requests"] == []
    assert said[name]["hacked"] is None
    assert said[name]["unnamed"] == []


@needs_browser
@every_graph
def test_the_tour_goes_through_every_result_twice(name, said, explained):
    explanation = explained[name][1]
    results = [e.number for e in explanation if e.kind == "result"]
    captions = said[name]["captions"]
    assert len(captions) == 2 + 2 * len(results)
    assert said[name]["dim"][: len(results) + 1] == list(range(len(results), -1, -1))  # one more is known at each step
    for i, number in enumerate(results, 1):
        assert captions[i].startswith(f"Forward {i} of {len(results)}.")
        assert explanation.entries[number].name in captions[i]
    for i, number in enumerate(explanation.order, 1):
        assert captions[1 + len(results) + i].startswith(f"Backward {i} of {len(results)}.")
        assert explanation.entries[number].name in captions[1 + len(results) + i]
    assert said[name]["tokens"] == len(explanation.entries[explanation.order[-1]].passes)


@needs_browser
@every_graph
def test_the_panel_tells_where_a_tensor_comes_from(name, said, explained):
    for entry in explained[name][1]:
        shown = said[name]["tensors"][entry.name]
        if entry.place is not None:
            assert shown["code"] == entry.place.text
            assert shown["mark"] == entry.place.text[entry.place.start : entry.place.end]
            assert f"line {entry.place.line}" in shown["file"]
            assert shown["formula"]
        if entry.difference is not None:
            assert len(shown["check"]) == len(entry.difference.where)
            for row, gradient, expected in zip(
                shown["check"], entry.difference.gradient, entry.difference.expected, strict=True
            ):
                assert float(row[1]) == float(str(gradient))
                assert float(row[2]) == pytest.approx(float(expected), rel=1e-8)


@needs_browser
def test_by_keyboard(said):
    keys = said["shared"]["keys"]
    steps = [v for k, v in keys.items() if k[0].isdigit()]
    assert steps == [0, 1, 2, 1, 11, 10]
    assert keys["next"]
    assert keys["back"]
    assert keys["stops"] == 1  # one stop of the tabulator for the whole graph
    assert keys["panel"] == "panel"
    assert keys["returned"]
    assert (keys["plays"], keys["pauses"]) == ("Pause", "Play")
    assert said["shared"]["live"] == "polite"


@needs_browser
def test_light_and_dark(said):
    first, second, background = said["shared"]["themes"]
    assert {first, second} == {"light", "dark"}
    assert background == {"dark": "rgb(20, 22, 27)", "light": "rgb(244, 242, 236)"}[second]


@needs_browser
def test_on_a_phone_nothing_is_wider_than_the_screen(said_on_a_phone):
    for name, shown in said_on_a_phone.items():
        assert shown["errors"] == []
        wide, screen = shown["width"]
        assert wide <= screen == 360, name


@needs_browser
@pytest.mark.parametrize("name", ["cut by module", "cut by depth"])
def test_a_part_has_the_numbers_of_the_whole(name, said, explained):
    explanation = explained[name][1]
    shown = said[name]["tensors"]
    assert list(shown) == [e.name for e in explanation]
    for entry in explanation:
        same(shown[entry.name]["value"], entry.value)
        if entry.gradient is not None:
            same(shown[entry.name]["gradient"], entry.gradient)


@needs_browser
def test_names_and_code_are_text(said):
    evil = said["evil"]
    assert next(iter(evil["tensors"])) == EVIL
    assert "<script>window.hacked=3</script>" in evil["tensors"]["<b>loss</b> & \u2028"]["code"]
    assert evil["title"] == "Backprop of <b>loss</b> & \u2028"
    assert evil["tensors"][EVIL]["value"] == ["1", "NaN", "Infinity", "-0"]


# ------------------------------------------------------------------------------- without a browser


def data_of(text: str) -> dict:
    _, _, rest = text.partition('<script type="application/json" id="data">')
    return json.loads(rest.partition("</script>")[0])


def test_the_page_needs_nothing_else():
    text = page(explain(make("scalar")[0]))
    assert "default-src 'none'" in text
    outside = text.replace("http://www.w3.org/2000/svg", "")
    for word in ("http:", "https:", "//cdn", "@import", "src=", "fetch(", "XMLHttpRequest", "WebSocket", "url("):
        assert word not in outside.replace("default-src=", ""), word
    assert "{{" not in text


def test_nothing_ends_the_script():
    x = Tensor(1.0, requires_grad=True)
    text = page(explain(x * 2.0, names={EVIL: x}))
    assert text.lower().count("</script") == 2
    assert text.count("<img") == 0
    assert data_of(text)["tensors"][0]["name"] == EVIL


def test_arrays_are_written_once():
    x = Tensor(np.arange(50.0), requires_grad=True)
    data = data_of(page(explain(ops.sum(x + 0.0))))
    assert len({json.dumps(a) for a in data["arrays"]}) == len(data["arrays"])
    assert data["tensors"][0]["v"] == data["tensors"][1]["v"]


@pytest.mark.skipif(interpreted(), reason="a batch of MNIST's size takes minutes where kernels are plain Python")
def test_a_page_of_mnists_net_stays_small():
    rng = np.random.default_rng(0)
    w = [
        Tensor(rng.normal(size=s).astype(np.float32), requires_grad=True)
        for s in ((512, 784), (512,), (10, 512), (10,))
    ]
    x = rng.uniform(size=(128, 784)).astype(np.float32)
    loss = ops.softmax_cross_entropy(ops.dense(ops.dense_relu(x, w[0], w[1]), w[2], w[3]), np.arange(128) % 10)
    explanation = explain(loss)
    assert len(page(explanation).encode()) < 400_000
    data = data_of(page(explanation))
    shown = data["arrays"][data["tensors"][explanation[w[0]].number]["g"]]
    same({"summary": shown["m"][:4]}, explanation[w[0]].gradient)


def test_a_page_of_a_thousand_tensors_stays_small():
    assert len(page(explain(residual(1000)[0])).encode()) < 1_000_000
