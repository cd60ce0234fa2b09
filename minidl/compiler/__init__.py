"""`compile`: a training step as one machine-code function, with a source that one can read.

    step = minidl.compile(train_step)
    loss = step(x, y)      # the first call records and compiles
    print(step.source)

The function is run once with Traced arrays (`traced`), which write down what is done with them (`recorder`,
`functions`), on the state that is found in it (`state`). What was written down is put in order (`plan`), printed
(`text`) and turned into loops for Numba (`lower`, `program`).
"""

from minidl.compiler.step import Step, compile
from minidl.compiler.traced import CompileError

__all__ = ["CompileError", "Step", "compile"]
