"""Monitor the layers of a model while `train.fit` trains it, and report problems in plain sentences.

watch = Watch(every=50)
fit(model, train, epochs=5, callbacks=[watch])
print(watch)                       # a table of the last watched step, and the findings
watch.plot("run.png")
"""

from __future__ import annotations

import copy
import json
import math

import numpy as np

from minidl.data import Loader
from minidl.shared.files import FilePath
from minidl.shared.numbers import count
from minidl.tensor import Array
from minidl.train.run import Run
from minidl.watch.activations import probe
from minidl.watch.diagnosis import FEWEST, MOST, Diagnosis
from minidl.watch.findings import Finding, together
from minidl.watch.parameters import moved, parameters_of
from minidl.watch.series import Series
from minidl.watch.text import told

__all__ = ["Finding", "Watch"]


class Watch(Series):
    """A callback of `train.fit` that measures layers, gradients and updates, and reports problems in sentences.

    every      watch every so many steps, including the first
    examples   the number of training examples to probe with, spread evenly over the set and not augmented

    After each watched step the model runs in evaluation mode, always on the same examples; gradients are those the step
    used (of the last batch, or the mean of accumulated batches; clipped if so configured); updates are the difference
    from a copy of the parameters taken just before the step. The run itself is unaffected, bit for bit: modes, buffers,
    gradients and generators are restored. While watched, `fit` takes its steps one by one: with every=50 and 400,000
    parameters they took a seventh longer, mostly for that reason.

    steps      (S,) the watched steps, as numbered in the run;  losses (S,): the mean since the previous watched step
    records    by layer and parameter: {statistic: array (S,)}, NaN where not measured
               for a layer's outputs: "mean", "std"; shares of the values that are "zeros", "nonfinite" or "saturated"
               (tanh, sigmoid: a slope below a twentieth of the maximum); the share of ReLU units that are "dead" (0 for
               all examples)
               for a parameter θ: "norm" before the step; "gradient_norm", "gradient_rms", "gradient_nonfinite" (a
               share); "update_ratio" ‖Δθ‖/‖θ‖, infinite where θ was 0
    findings   the problems, in order of detection: see `Finding`

    A layer is a module without others inside, or relu, tanh or sigmoid called in a module, such as "block.tanh()". A
    Dense that a Sequential fuses with the ReLU after it has no outputs of its own. Only the latest run is kept, and not
    in checkpoints: a resumed run is watched from there on.

    TypeError, ValueError: every or examples is not an int ≥ 1.
    """

    def __init__(self, every: int = 50, examples: int = 256) -> None:
        self.every, self.examples = count("Watch", "every", every), count("Watch", "examples", examples)
        self._begin(Diagnosis({}, FEWEST))

    def _begin(self, diagnosis: Diagnosis) -> None:
        super()._begin(diagnosis)
        self._total, self._count = 0.0, 0  # losses since the last watched step
        self._before: dict[str, Array] = {}

    @property
    def sentences(self) -> list[str]:
        """The findings as sentences, one for all that share cause and advice."""
        groups = together(self.findings)
        return [f"{' '.join(f'{f.when[:1].upper()}{f.when[1:]}: {f.fact}.' for f in g)} {g[0].remedy}" for g in groups]

    # ------------------------------------------------------------------------------------- the run

    def on_train_begin(self, run: Run) -> None:
        x, y = _examples(run.loader, self.examples)
        outputs = probe(run.model, x)[1]
        steps = min(max(FEWEST, len(run.loader)), MOST)
        self._begin(Diagnosis(_guesses(outputs, run.loader.arrays[1]), steps))
        self._x, self._shown = x, len(y)
        self._parameters = parameters_of(run.model)
        self.parameters = {p.name: p.judged for p in self._parameters}
        self._look_ahead(run)

    def on_step_end(self, run: Run) -> None:
        self._total += run.logs["loss"]
        self._count += 1
        if self._watches(run.step):
            self._measure(run)
        self._look_ahead(run)

    def _watches(self, step: int) -> bool:
        return step == 1 or step % self.every == 0

    def _look_ahead(self, run: Run) -> None:
        """Copy the parameters before a step that will be watched."""
        self._before = {}
        if self._watches(run.step + 1):
            self._before = {p.name: p.tensor.data.copy(order="K") for p in self._parameters}

    def _measure(self, run: Run) -> None:
        layers, _ = probe(run.model, self._x)
        rates = {p: group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
        parameters = [moved(p, self._before.get(p.name), rates.get(p.tensor)) for p in self._parameters]
        loss, self._total, self._count = self._total / self._count, 0.0, 0
        self._steps.append(run.step)
        self._losses.append(loss)
        for name, layer in layers.items():
            self.layers.setdefault(name, layer.title)
            self._keep(name, layer.statistics())
        for p in parameters:
            self._keep(p.name, p.statistics())
        for kept in self._records.values():
            for values in kept.values():
                values.extend([math.nan] * (len(self._steps) - len(values)))
        self._diagnosis.look(run.step, layers, parameters, loss, self._shown)

    # ------------------------------------------------------------------------------------- results

    def __str__(self) -> str:
        return told(self)

    def __repr__(self) -> str:
        return f"Watch(every={self.every}, examples={self.examples})"

    def to_json(self) -> str:
        """{"every", "examples", "steps", "losses", "records", "findings"}, as in the attributes; NaN and ∞ are null."""

        def numbers(values: list[float]) -> list[float | None]:
            return [v if math.isfinite(v) else None for v in values]

        records = {name: {k: numbers(v) for k, v in kept.items()} for name, kept in self._records.items()}
        known = {"every": self.every, "examples": self.examples, "steps": self._steps, "losses": numbers(self._losses)}
        return json.dumps({**known, "records": records, "findings": [f.to_dict() for f in self.findings]}, indent=2)

    def plot(self, path: FilePath) -> None:
        """Draw the loss, layer outputs, gradients and updates over the watched steps as a PNG.

        ImportError: the `plot` extra is not installed. ValueError: nothing was watched yet, or the path does not end in
        .png. OSError: the file cannot be written.
        """
        from minidl.watch.plot import draw

        draw(self, path)


def _examples(loader: Loader, count: int) -> tuple[Array, Array]:
    """Inputs and targets spread over the set, as in batches but not augmented: nothing is drawn at random."""
    plain = copy.copy(loader)
    plain.augment = plain.mixup = None
    n = len(loader.arrays[0])
    x, y = plain.batch(np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64)))
    return x, y


def _guesses(outputs: Array | None, targets: Array) -> dict[str, float]:
    """Cross-entropies of guessing: uniformly over the classes, and by class frequency."""
    integers = targets.dtype.kind in "iub"
    if outputs is None or not (integers or np.isin(targets, (0, 1)).all()):
        return {}
    several = outputs.ndim == 2 and outputs.shape[1] > 1
    if several and not integers:  # multilabel: each class by itself
        return {}
    classes = outputs.shape[1] if several else 2
    labels = targets[targets >= 0]
    shares = np.bincount(labels.reshape(-1).astype(np.int64), minlength=classes) / max(labels.size, 1)
    known = shares[shares > 0]
    return {
        f"guessing evenly among {classes} classes (ln {classes})": math.log(classes),
        "guessing by the classes' frequencies": float(-(known * np.log(known)).sum()),
    }
