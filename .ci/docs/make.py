"""The API reference, made from the docstrings: `python .ci/docs/make.py [DIRECTORY]`; needs the `dev` extra.

Docstrings are written to be read as text: arguments in aligned columns, a formula and its derivative some spaces
apart. pdoc takes Markdown, in which both run together; so each paragraph is turned into what it is.
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pdoc
import pdoc.doc
import pdoc.render

import minidl
from minidl import nn, ops

HERE = Path(__file__).parent
BESIDE = ("minidl.compiler", "minidl.explanation", "minidl.overview")  # what functions of `minidl` return
ARGUMENT = re.compile(r"(`?\w[\w.]*`?(?:, `?\w[\w.]*`?)* {2,})\S")
ALIASES = {  # as the source has them
    "numpy.ndarray[typing.Any, numpy.dtype[typing.Any]]": "Array",
    "numpy.random._generator.Generator": "numpy.random.Generator",
    "typing.": "",
    "collections.abc.": "",
}


def markdown(docstring: str) -> str:
    """A docstring as Markdown that shows what the text does."""
    return "\n\n".join(map(paragraph, re.split(r"\n{2,}", inspect.cleandoc(docstring))))


def paragraph(text: str) -> str:
    """An example or code as it is; aligned arguments as a table; the parts of a formula one to a line."""
    if text.startswith((">>>", "    ")):
        return text
    if rows := table(text):
        lines = [f"| {name} | {plain(about).replace('|', chr(92) + '|')} |" for name, about in rows]
        return "\n".join(["| | |", "|---|---|", *lines])
    return re.sub(r"(?<=\S) {2,}", "  \n", plain(text))


def table(text: str) -> list[tuple[str, str]]:
    """(name, what it is) of a paragraph in two aligned columns; nothing if it is another."""
    first, *rest = text.split("\n")
    start = ARGUMENT.match(first)
    if not start:
        return []
    column = start.end(1)
    rows = [(first[:column].strip(), first[column:])]
    for line in rest:
        if line[:column].strip() and line[column - 1 : column] == " ":
            rows.append((line[:column].strip(), line[column:]))
        elif not line[:column].strip():
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}")
        else:
            return []
    return rows


def plain(text: str) -> str:
    """What Markdown would take for emphasis, a tag or a link, outside of code, as the characters that they are."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<\[\]#])", r"\\\1", p) for p in parts)


def prepare() -> None:
    """Let pdoc see names that are imported when they are asked for, what ops return, and inherited constructors."""
    for name in minidl.__all__:
        setattr(minidl, name, getattr(minidl, name))
    for name in ops.__all__:
        inspect.unwrap(getattr(ops, name)).__annotations__["return"] = minidl.Tensor
    for name in nn.__all__:
        layer: Any = getattr(nn, name)
        if inspect.isclass(layer) and layer.__init__ is not object.__init__:
            layer.__init__ = layer.__init__  # as the class's own


def named(format: Any) -> Any:
    """`format`, with long types under the names that they have in the source."""

    def formatted(annotation: Any) -> str:
        text: str = format(annotation)
        for long, short in ALIASES.items():
            text = text.replace(long, short)
        return text

    return formatted


def make(directory: Path) -> None:
    """Write the pages."""
    prepare()
    inspect.formatannotation = pdoc.doc.formatannotation = named(inspect.formatannotation)
    pdoc.render.configure(template_directory=HERE / "templates", include_undocumented=False)
    pdoc.render.env.filters["to_markdown"] = markdown
    sklearn = ["minidl.sklearn"] if find_spec("sklearn") else []
    rooms = "compiler|data|explanation|jit|ops|overview|report|search|sklearn|train|watch"
    inside = rf"!minidl[.]({rooms})[.](?!augment$|callbacks$)"
    pdoc.pdoc("minidl", *BESIDE, *sklearn, inside, output_directory=directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "html")
