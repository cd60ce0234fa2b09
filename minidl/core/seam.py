"""The one seam through which code observes, or takes part in, the ops that run in this thread.

`@op`, `@kernel` and modules call the thread's interceptor if there is one, and so do `as_array`, `default_generator`,
`Tensor.backward` and optimizers, which announce what they begin.
Nothing is patched, so other threads are unaffected, and an interceptor needs no cooperation from what it observes.

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
    """Base class of interceptors. By default each method does what would happen without one.

    knows_fused   `module` need not see a Dense and its ReLU that a Sequential runs as the op `dense_relu`
    """

    knows_fused: bool = False

    def op(self, function: Callable[..., Any], args: Any, arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        """(value, gradient functions) of an op. `args` are as the caller passed them, `arrays` the same as arrays."""
        return function(*arrays, **kwargs)

    def module(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module and return its result."""
        return module.run(*args, **kwargs)

    def kernel(self, kernel: Any, args: tuple[Any, ...]) -> Any:
        """Call a kernel and return its result."""
        return (kernel._replacement or kernel.direct)(*args)

    def backward(self, tensor: Any, run: Callable[[], None]) -> None:
        """Run `backward` from this tensor."""
        run()

    def gradient(self, op: str, tensor: Any) -> None:
        """Backward is about to carry a gradient through `op` to `tensor`, or if `op` is "", to add to its `.grad`."""

    def update(self, optimizer: Any, parameter: Any, run: Callable[[], None]) -> None:
        """Run an optimizer's update of one parameter."""
        run()

    def array(self, array: Any) -> Any:
        """An array that an op converted from a number or list among its inputs."""
        return array

    def generator(self, default: Any) -> Any:
        """The generator to use in place of the default one."""
        return default


class _Seam(threading.local):
    interceptor: Interceptor | None = None

    def array(self, array: Any) -> Any:
        """Show the interceptor an array that an op converted from a number or list."""
        return array if self.interceptor is None else self.interceptor.array(array)


SEAM = _Seam()


def announced(backward: Callable[P, None]) -> Callable[P, None]:
    """The method `backward`, announced to the interceptor when it begins."""

    @functools.wraps(backward)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        if SEAM.interceptor is None:
            backward(*args, **kwargs)
        else:
            SEAM.interceptor.backward(args[0], functools.partial(backward, *args, **kwargs))

    return call


@contextlib.contextmanager
def intercepted(interceptor: Interceptor | None) -> Iterator[None]:
    """Within the block, this thread's ops, kernels and draws go through the interceptor; None: through none."""
    before, SEAM.interceptor = SEAM.interceptor, interceptor
    try:
        yield
    finally:
        SEAM.interceptor = before
