"""The one seam: through it somebody looks on, or takes part, while the ops of this thread run.

`@op`, `@kernel` and modules call the thread's interceptor if there is one, and so do `as_array`, `default_generator`,
`Tensor.backward` and optimizers, which announce what they begin.
Nothing is patched, so other threads go on as always, and who looks on needs nothing from those that are looked at.

    class Counting(Interceptor):
        def op(self, function, args, arrays, kwargs):
            self.count[function.__name__] += 1
            return function(*arrays, **kwargs)

    with intercepted(Counting()):
        model(x)
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

P = ParamSpec("P")


class Interceptor:
    """What `@op` and the others call instead. Here each does what it would do anyway.

    knows_fused   `module` is content not to see a Dense and its ReLU that a Sequential runs as the op `dense_relu`
    """

    knows_fused: bool = False

    def op(self, function: Callable[..., Any], args: Any, arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        """(value, gradient functions) of an op. `args` are as the caller gave them, `arrays` without their Tensors."""
        return function(*arrays, **kwargs)

    def module(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a module that is called returns."""
        return module.run(*args, **kwargs)

    def kernel(self, kernel: Any, args: tuple[Any, ...]) -> Any:
        """What a kernel returns."""
        return (kernel._replacement or kernel.direct)(*args)

    def backward(self, tensor: Any, run: Callable[[], None]) -> None:
        """Run `backward` from this tensor."""
        run()

    def gradient(self, op: str, tensor: Any) -> None:
        """Hear that backward begins to carry a gradient through `op` to `tensor`; "": to add one to its `.grad`."""

    def update(self, optimizer: Any, parameter: Any, run: Callable[[], None]) -> None:
        """Run an optimizer's update of one parameter."""
        run()

    def array(self, array: Any) -> Any:
        """An array that an op has made of a number or list among its inputs."""
        return array

    def generator(self, default: Any) -> Any:
        """Whom those get that ask for the default generator."""
        return default


class _Seam(threading.local):
    interceptor: Interceptor | None = None

    def array(self, array: Any) -> Any:
        """Let the interceptor see the array that an op has made of a number or list."""
        return array if self.interceptor is None else self.interceptor.array(array)


SEAM = _Seam()


def announced(backward: Callable[P, None]) -> Callable[P, None]:
    """The method `backward`, told to the interceptor when it begins."""

    @functools.wraps(backward)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        if SEAM.interceptor is None:
            backward(*args, **kwargs)
        else:
            SEAM.interceptor.backward(args[0], functools.partial(backward, *args, **kwargs))

    return call


@contextlib.contextmanager
def intercepted(interceptor: Interceptor | None) -> Iterator[None]:
    """Within the block, this thread's ops, kernels and draws go through the interceptor; None: through nobody."""
    before, SEAM.interceptor = SEAM.interceptor, interceptor
    try:
        yield
    finally:
        SEAM.interceptor = before
