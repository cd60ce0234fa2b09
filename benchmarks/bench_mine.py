"""A kernel of your own beside minidl's: checked, then timed, in the same table.

    python benchmarks/bench_mine.py

The first variant is right. The second hides NaN, which costs a variant its place: it is refused, with the reason.
"""

from minidl.bench import report
from minidl.bench.measure import Task, bench
from minidl.bench.verify import WrongResult
from minidl.jit import prange
from minidl.ops.activation import relu_forward


@relu_forward.variant(parallel=lambda x, y: x.size >= 1 << 15)
def on_threads(x, y):
    """The same on all cores, in slices: an index with an offset would keep the loop from becoming vectors."""
    part = 1 << 12
    for t in prange((x.size + part - 1) // part):
        source, target = x[t * part : (t + 1) * part], y[t * part : (t + 1) * part]
        for i in range(source.size):
            target[i] = source.dtype.type(0) if source[i] < 0 else source[i]


@relu_forward.variant
def hides_nan(x, y):
    """NaN > 0 is false: NaN becomes 0, and a net that has diverged looks healthy."""
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else x.dtype.type(0)


def main():
    try:
        bench([Task("relu_forward", ["hides_nan"])])
    except WrongResult as error:
        print(f"refused: {error}\n")
    told, results = bench([Task("relu_forward", ["on_threads"], shape) for shape in ((1 << 16,), (1 << 22,))])
    print("\n".join(report.header(told)), end="\n\n")
    print("\n".join(report.table(results)))


if __name__ == "__main__":
    main()
