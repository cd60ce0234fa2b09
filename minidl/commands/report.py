"""`minidl report`: a one-page report of a run."""

import argparse
import json
from pathlib import Path
from typing import Any

from minidl import checkpoint
from minidl.commands.settings import outputs
from minidl.commands.shared import load_model, loader, test_set
from minidl.report import write_report
from minidl.shared.terminal import Failure, note, reason
from minidl.train.evaluation import predict


def run_report(arguments: argparse.Namespace) -> None:
    run = Path(arguments.run_path)
    model_path, figures_path, _ = outputs(None, run) if run.is_dir() else outputs(run, None)
    figures = _figures(figures_path)
    page = arguments.out or model_path.with_suffix(".html")
    try:
        checkpoint.check_writable(page)
    except OSError as error:
        raise Failure(f"--out: cannot write {page} ({reason(error)})") from error
    arguments.model = str(model_path)
    model, config = load_model(arguments)
    _, test = test_set(arguments, config)
    try:
        write_report(page, figures, test.x, test.y, predict(model, loader(test.x, config)))
    except ValueError as error:
        raise Failure(f"{figures_path}: {error}") from error
    note(f"wrote {page}")


def _figures(path: Path) -> dict[str, Any]:
    """Read the figures that `minidl train` left beside the model."""
    try:
        figures = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Failure(f"expected the figures of `minidl train` in {path}, found none ({reason(error)})") from error
    except ValueError as error:
        raise Failure(f"{path}: expected the figures of `minidl train`, found something else ({error})") from error
    if not isinstance(figures, dict):
        raise Failure(f"{path}: expected the figures of `minidl train`, found something else")
    return figures
