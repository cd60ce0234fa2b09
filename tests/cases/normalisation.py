"""Cases of normalisation and embedding."""

from typing import Any

import numpy as np

from cases.table import case, normal, uniform
from minidl import ops

MEAN, VAR = np.array([0.2, -0.4]), np.array([0.5, 2.0])


def running(t: Any = None) -> Any:
    """Running statistics of their own, so that the one in training changes none that is shared."""
    return (MEAN.copy(), VAR.copy()) if t is None else (t.tensor(MEAN), t.tensor(VAR))


for name, shape in {"": (3, 2, 2, 3), " rows": (4, 2)}.items():
    case(f"batch_norm{name}", lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
         [normal(*shape), uniform(0.5, 2, 2), normal(2)],
         lambda t, x, w, b: t.nn.functional.batch_norm(x, None, None, w, b, True))  # fmt: skip
case("batch_norm eval", lambda x, w, b: ops.batch_norm(x, *running(), w, b, False, eps=0.1),
     [normal(2, 2, 3), uniform(0.5, 2, 2), normal(2)],
     lambda t, x, w, b: t.nn.functional.batch_norm(x, *running(t), w, b, False, eps=0.1))  # fmt: skip
case("layer_norm", lambda x, w, b: ops.layer_norm(x, 5, w, b), [normal(2, 3, 5), uniform(0.5, 2, 5), normal(5)],
     lambda t, x, w, b: t.nn.functional.layer_norm(x, (5,), w, b))  # fmt: skip
case("layer_norm axes", lambda x, w: ops.layer_norm(x, (3, 6), w, eps=0.1), [normal(2, 3, 6), uniform(0.5, 2, 3, 6)],
     lambda t, x, w: t.nn.functional.layer_norm(x, (3, 6), w, eps=0.1))  # fmt: skip
case("group_norm", lambda x, w, b: ops.group_norm(x, 2, w, b), [normal(2, 4, 3), uniform(0.5, 2, 4), normal(4)],
     lambda t, x, w, b: t.nn.functional.group_norm(x, 2, w, b))  # fmt: skip
INDICES = np.array([[0, 3, 3], [1, 3, 0]])
case("embedding", lambda w: ops.embedding(INDICES, w), [normal(4, 3)],
     lambda t, w: t.nn.functional.embedding(t.tensor(INDICES), w))  # fmt: skip
case("embedding padding", lambda w: ops.embedding(INDICES, w, padding_idx=2), [normal(4, 3)],
     lambda t, w: t.nn.functional.embedding(t.tensor(INDICES), w, padding_idx=2))  # fmt: skip
