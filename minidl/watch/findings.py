"""Findings about a run: the problem, its usual causes, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

TOLD: dict[str, tuple[str, str]] = {  # kind → usual causes, what to try
    "nonfinite": (
        "an overflow after steps that were too large; the logarithm or root of 0; a division by 0",
        "a smaller learning rate, clip_norm=1, a small number added inside log, sqrt and below fractions",
    ),
    "dead": (
        "a step so large that it drove biases far below zero; biases or weights that begin there",
        "a smaller learning rate, init.kaiming_uniform_ with biases of 0, or nn.LeakyReLU",
    ),
    "saturated": (
        "weights that begin too large or were driven there by large steps; inputs with large numbers",
        "init.xavier_uniform_, inputs of mean 0 and spread 1, a normalisation before it, a smaller learning rate, ReLU",
    ),
    "vanishing": (
        "many layers of which each makes the gradient smaller: weights that begin too small, saturated tanh or sigmoid",
        "init.kaiming_uniform_ (ReLU) or init.xavier_uniform_ (tanh), ReLU, normalisation, shortcuts (nn.Residual)",
    ),
    "exploding": (
        "weights that begin too large in a deep or recurrent net; inputs or targets with large numbers",
        "clip_norm=1, init.kaiming_uniform_ or init.xavier_uniform_, inputs and targets of spread 1, normalisation",
    ),
    "large_updates": (
        "a learning rate too large for this net",
        "a tenth of it, a schedule that begins small (warm-up), clip_norm=1",
    ),
    "small_updates": (
        "a learning rate too small for this net, or gradients that come through it small",
        "ten times the learning rate, or Adam, whose steps do not depend on the gradients' size",
    ),
    "stuck": (
        "a learning rate far too large or too small; dead or saturated layers; labels that do not belong to the inputs",
        "whether the net can learn one batch by heart; a look at inputs beside their labels; other learning rates",
    ),
    "frozen": ("it was frozen on purpose", "nothing if so, else requires_grad_(True)"),
    "unreached": (
        "forward() does not use it, or detach(), no_grad or .numpy() cuts it off from the loss",
        "to follow its output to the loss, or to remove it",
    ),
    "forgotten": ("the optimizer was made before it, or of other parameters", "Optimizer(model.parameters())"),
    "rate": ("a schedule or an option that is 0", "optimizer.param_groups[i]['lr'] = 1e-3"),
    "idle": (
        "a gradient of 0: what comes before or after it is 0 for every example; or steps smaller than its last digit",
        "other initial values (not all 0), a larger learning rate",
    ),
}


@dataclass
class Finding:
    """A problem of a run.

    kind      "nonfinite", "dead", "saturated", "vanishing", "exploding", "large_updates", "small_updates", "unchanged"
              or "stuck"
    layer     the module's name, as in `named_modules` ("" is the model itself), or of a function in it
              ("block.tanh()"); None: the loss
    fact      the observation, with numbers;  cause: the usual causes;  advice: what to try
    step      the step at which it was first noticed;  last: the latest watched step at which it held
    """

    kind: str
    layer: str | None
    fact: str
    cause: str
    advice: str
    step: int
    last: int

    @property
    def sentence(self) -> str:
        """Fact, cause and advice as text."""
        return f"{self.fact[:1].upper()}{self.fact[1:]}. {self.remedy}"

    @property
    def remedy(self) -> str:
        """Cause and advice."""
        return f"Usual cause: {self.cause}. Try: {self.advice}."

    @property
    def when(self) -> str:
        """The steps, in words."""
        return f"step {self.step}" if self.last == self.step else f"steps {self.step} to {self.last}"

    def __str__(self) -> str:
        return f"{self.when}: {self.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return {**asdict(self), "sentence": self.sentence}


def together(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Group findings that share cause and advice, such as those of several layers of one net."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.kind, f.remedy), []).append(f)
    return list(groups.values())
