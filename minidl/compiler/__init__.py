"""`compile`: a training step as one machine-code function, with readable source.

    step = minidl.compile(train_step)
    loss = step(x, y)      # the first call records and compiles
    print(step.source)

The function runs once on Traced arrays (`traced`), which record every operation (`recorder`, `functions`), in place
of the state found in it (`state`). The recorded program is scheduled (`plan`), printed (`text`) and turned into loops
for Numba (`lower`, `program`).
"""

from minidl.compiler.step import Step, compile
from minidl.compiler.traced import CompileError

__all__ = ["CompileError", "Step", "compile"]
