"""One-page report of a run: its curves, its confusion matrix, and its most confident mistakes.

    write_report("report.html", figures, test.x, test.y, probabilities)

The page is one file that needs no network, no server and no script.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from minidl import metrics
from minidl.data.images import png
from minidl.report.charts import curves, matrix
from minidl.shared.files import FilePath, write_file
from minidl.tensor import Array

MISTAKES = 24


def write_report(
    path: FilePath, figures: Mapping[str, Any], images: Array, labels: Array, probabilities: Array
) -> None:
    """Write the page, atomically.

    figures         the JSON written by `minidl train`: "config", "parameters", and "epochs", a list of rows
    images, labels  the test set: bytes (N, 1, H, W) and integers (N,); probabilities (N, C): the model's

    ValueError: other shapes, or figures without epochs. OSError: the file cannot be written.
    """
    write_file(path, page(figures, images, labels, probabilities).encode())


def page(figures: Mapping[str, Any], images: Array, labels: Array, probabilities: Array) -> str:
    """The page of `write_report`, as HTML."""
    sizes = {len(images), len(labels), len(probabilities)}
    if images.ndim != 4 or labels.ndim != 1 or probabilities.ndim != 2 or len(sizes) > 1 or not len(labels):
        raise ValueError(
            "report: expected images (N, 1, H, W), labels (N,) and probabilities (N, C), "
            f"found {images.shape}, {labels.shape} and {probabilities.shape}"
        )
    rows = figures.get("epochs")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("report: expected figures of at least one epoch, found none")
    found = probabilities.argmax(axis=1)
    counts = metrics.confusion_matrix(labels, found, labels=range(probabilities.shape[1]))
    accuracy = float((found == labels).mean())
    config = figures.get("config") or {}
    title = f"{config.get('model', 'model')} on {config.get('dataset', 'images')}"
    wrong = int((found != labels).sum())
    body = [
        f"<header><p>minidl run</p><h1>{html.escape(title)}</h1>{_headline(figures, accuracy, len(labels))}</header>",
        f"<section><h2>Training</h2>{_charts(rows)}{_stopped(figures)}</section>",
        f"<section><h2>Confusion matrix</h2>{matrix(counts)}</section>",
        f"<section><h2>Worst mistakes</h2>{_mistakes(images, labels, probabilities, wrong)}</section>",
        *_watched(figures),
        f"<section><h2>Classes</h2>{_classes(counts)}</section>",
        f"<section><h2>Settings</h2>{_settings(figures)}</section>",
    ]
    style = resources.files("minidl.report").joinpath("page.css").read_text("utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _headline(figures: Mapping[str, Any], accuracy: float, count: int) -> str:
    rows = figures["epochs"]
    seconds = sum(row.get("seconds") or 0 for row in rows)
    told = {
        f"test accuracy, {count:,} images": f"{100 * accuracy:.2f} %",
        "epochs": str(len(rows)),
        "parameters": f"{figures.get('parameters', 0):,}",
        "training": f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min",
    }
    cells = (f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in told.items())
    return f'<dl class="headline">{"".join(cells)}</dl>'


def _charts(rows: list[dict[str, Any]]) -> str:
    def series(name: str) -> dict[str, list[float]]:
        kinds = {"training": "train", "validation": "val", "test": "test"}
        present = {told: f"{kind}_{name}" for told, kind in kinds.items() if f"{kind}_{name}" in rows[0]}
        return {told: [_number(row.get(key)) for row in rows] for told, key in present.items()}

    drawn = [curves("Loss", series("loss")), curves("Accuracy", series("accuracy"), percent=True)]
    rates = [_number(row.get("lr")) for row in rows]
    if len(set(rates)) > 1:
        drawn.append(curves("Learning rate", {"after the epoch": rates}))
    return f'<div class="charts">{"".join(drawn)}</div>'


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _stopped(figures: Mapping[str, Any]) -> str:
    return f"<p>Stopped early: {html.escape(str(figures['stopped']))}.</p>" if figures.get("stopped") else ""


def _mistakes(images: Array, labels: Array, probabilities: Array, wrong: int) -> str:
    """The mistakes whose wrong class had the highest probability."""
    if not wrong:
        return "<p>There are none: every test image was told right.</p>"
    found = probabilities.argmax(axis=1)
    sure = np.where(found != labels, probabilities.max(axis=1), -1)
    worst = np.argsort(-sure, kind="stable")[: min(MISTAKES, wrong)]
    cards = []
    for i in worst:
        picture = base64.b64encode(png(images[i, 0])).decode()
        about = f"test image {i}: true class {labels[i]}, predicted {found[i]}"
        cards.append(
            f'<li><img src="data:image/png;base64,{picture}" alt="{about}"><p><b>{labels[i]}</b> taken for '
            f"<b>{found[i]}</b></p><p>{100 * sure[i]:.1f} % sure</p></li>"
        )
    shown = f"{len(worst)} of {wrong:,}" if len(worst) < wrong else f"all {wrong:,}"
    told = f"{shown} wrong answers, those first that the model was surest of."
    return f"<p>{told}</p><ol class=mistakes>{''.join(cards)}</ol>"


def _watched(figures: Mapping[str, Any]) -> list[str]:
    """The findings of the run's `Watch`, if it had one."""
    if "watch" not in figures:
        return []
    told = [html.escape(str(sentence)) for sentence in figures["watch"]]
    items = "".join(f"<li>{sentence}</li>" for sentence in told) or "<li>Nothing out of the ordinary.</li>"
    return [f"<section><h2>Noticed while training</h2><ul>{items}</ul></section>"]


def _classes(counts: Array) -> str:
    rows = []
    for k in range(len(counts)):
        right, true, told = int(counts[k, k]), int(counts[k].sum()), int(counts[:, k].sum())
        recall = f"{100 * right / true:.2f} %" if true else "–"
        precision = f"{100 * right / told:.2f} %" if told else "–"
        rows.append(
            f'<tr><th scope="row">{k}</th><td>{true:,}</td><td>{right:,}</td><td>{recall}</td><td>{precision}</td></tr>'
        )
    names = ("class", "images", "right", "recall", "precision")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _settings(figures: Mapping[str, Any]) -> str:
    versions = figures.get("versions") or {}
    told = {**(figures.get("config") or {}), "threads": figures.get("threads"), **versions}
    rows = (
        f'<tr><th scope="row">{html.escape(str(k))}</th><td>{html.escape(_shown(v))}</td></tr>'
        for k, v in told.items()
        if v is not None
    )
    return f'<div class="scroll"><table class="settings"><tbody>{"".join(rows)}</tbody></table></div>'


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
