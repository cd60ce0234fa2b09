"""Cases of the recurrent layers' one op."""

import numpy as np

from cases.table import case, normal
from minidl import ops

for cell, gates in {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}.items():
    case(f"recurrent {cell}", lambda x, w, b, h, c, cell=cell: ops.recurrent(x, w, b, h, c, cell),
         [normal(3, 2, gates * 2), normal(gates * 2, 2), normal(gates * 2), normal(2, 2), normal(2, 2)])  # fmt: skip
LENGTHS = np.array([2, 3, 0])
case("recurrent reverse", lambda x, w, b, h, c: ops.recurrent(x, w, b, h, c, "lstm", True, LENGTHS),
     [normal(3, 3, 4), normal(4, 1), normal(4), normal(3, 1), normal(3, 1)])  # fmt: skip
case("recurrent lengths", lambda x, w, b, h, c: ops.recurrent(x, w, b, h, c, "gru", False, LENGTHS),
     [normal(3, 3, 3), normal(3, 1), normal(3), normal(3, 1), normal(3, 1)])  # fmt: skip
