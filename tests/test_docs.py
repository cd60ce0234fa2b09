"""The API reference: one command makes it, whole, and what is aligned in a docstring is aligned on the page."""

import html
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

pytest.importorskip("pdoc", reason="the dev extra is not installed")
ROOT = Path(minidl.__file__).parent.parent


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name → page, as `python .ci/docs/make.py` writes them without the packages of the extras."""
    out = tmp_path_factory.mktemp("reference")
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in ("matplotlib", "optuna", "sklearn", "tensorboardX"))
    program = f"import runpy, sys; {absent}sys.argv[1:] = [{str(out)!r}]; "
    program += f"runpy.run_path({str(ROOT / '.ci' / 'docs' / 'make.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return {p.relative_to(out).with_suffix("").as_posix(): p.read_text("utf-8") for p in out.rglob("*.html")}


def text_of(page: str, name: str) -> str:
    """What a page says about one name, its source left out."""
    section = re.search(rf'<section id="{re.escape(name)}">(.*?)</section>', page, re.DOTALL)
    assert section, f"the page has no {name}"
    without_source = re.sub(r'<div class="pdoc-code codehilite">.*?</div>', "", section[1], flags=re.DOTALL)
    return html.unescape(re.sub(r"<(?!/?(td|br|tr)\b)[^>]*>", "", without_source))


def test_every_public_name_has_its_place(pages):
    for name in minidl.__all__:
        there = f"minidl/{name}" in pages or f'<section id="{name}">' in pages["minidl"]
        assert there, f"the reference has no {name}"
    for part in (minidl.nn, minidl.ops, minidl.optim, minidl.data, minidl.metrics, minidl.train):
        page = pages[part.__name__.replace(".", "/")]
        for name in part.__all__:
            assert f'<section id="{name}">' in page or f"{part.__name__.replace('.', '/')}/{name}" in pages, name


def test_a_formula_has_its_derivative_on_a_line_of_its_own(pages):
    lines = re.split(r"<br ?/?>\s*", text_of(pages["minidl/ops"], "tanh"))
    assert any(line.strip().startswith("dL/dx = ") for line in lines)


def test_an_op_returns_a_tensor(pages):
    assert "-> minidl.Tensor" in " ".join(text_of(pages["minidl/ops"], "tanh").split())


def test_arguments_are_rows_of_a_table(pages):
    text = text_of(pages["minidl/train"], "evaluate")
    assert re.findall(r"<td[^>]*>(\w+)</td>", text) == ["dataset", "loss", "metrics"]


def test_a_layer_shows_the_arguments_it_inherits(pages):
    assert re.search(r'id="Conv2d.__init__".{,2000}?>kernel_size</span>', pages["minidl/nn"], re.DOTALL)


def test_what_markdown_would_swallow_is_there(pages):
    assert "θ ← θ − η" in text_of(pages["minidl/optim"], "SGD")
    assert "i < j" in markdown_as_html("zero where i < j, a*b*c and [x](y) are text")
    assert "a*b*c and [x](y)" in markdown_as_html("zero where i < j, a*b*c and [x](y) are text")


def markdown_as_html(text: str) -> str:
    from pdoc.render_helpers import to_html

    markdown = runpy.run_path(str(ROOT / ".ci" / "docs" / "make.py"))["markdown"]
    return html.unescape(str(to_html(markdown(text))))
