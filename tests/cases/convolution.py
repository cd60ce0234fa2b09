"""Cases of convolutions and pooling."""

from cases.table import apart, case, normal
from minidl import ops

CONV2D = {
    "": ((2, 2, 4, 5), (3, 2, 3, 2), {}),
    " one image": ((4, 3, 4), (2, 2, 2, 2), {"stride": (1, 2), "padding": 1, "groups": 2}),
    " stride": ((1, 2, 5, 6), (2, 2, 2, 3), {"stride": (2, 3), "padding": (1, 0)}),
    " dilation": ((2, 1, 6, 5), (1, 1, 2, 2), {"dilation": (3, 2), "padding": 1}),
    " groups": ((1, 4, 3, 3), (4, 2, 2, 2), {"groups": 2}),
    " same": ((1, 1, 3, 4), (2, 1, 2, 3), {"padding": "same"}),
    " one": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    " stride over kernel": ((1, 1, 5, 5), (1, 1, 1, 2), {"stride": 3}),
}
for what, (x, w, how) in CONV2D.items():
    case(f"conv2d{what}", lambda x, w, b, how=how: ops.conv2d(x, w, b, **how), [normal(*x), normal(*w), normal(w[0])],
         lambda t, x, w, b, how=how: t.nn.functional.conv2d(x, w, b, **how))  # fmt: skip
case(
    "conv2d no bias", ops.conv2d, [normal(1, 2, 3, 3), normal(2, 2, 2, 2)], lambda t, x, w: t.nn.functional.conv2d(x, w)
)
case("conv1d", lambda x, w, b: ops.conv1d(x, w, b, stride=2, padding=1, dilation=2),
     [normal(2, 2, 8), normal(3, 2, 3), normal(3)],
     lambda t, x, w, b: t.nn.functional.conv1d(x, w, b, stride=2, padding=1, dilation=2))  # fmt: skip
case("conv1d same", lambda x, w: ops.conv1d(x, w, padding="same", groups=2), [normal(1, 2, 5), normal(2, 1, 2)],
     lambda t, x, w: t.nn.functional.conv1d(x, w, padding="same", groups=2))  # fmt: skip
case("conv1d alone", lambda x, w, b: ops.conv1d(x, w, b, stride=2, padding=1),
     [normal(2, 6), normal(3, 2, 3), normal(3)],
     lambda t, x, w, b: t.nn.functional.conv1d(x, w, b, stride=2, padding=1))  # fmt: skip
TRANSPOSED = {
    "": {},
    " stride": {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
    " dilation": {"dilation": 2, "padding": 1},
}
for what, how in TRANSPOSED.items():
    case(f"conv_transpose2d{what}", lambda x, w, b, how=how: ops.conv_transpose2d(x, w, b, **how),
         [normal(2, 2, 2, 3), normal(2, 2, 3, 2), normal(2)],
         lambda t, x, w, b, how=how: t.nn.functional.conv_transpose2d(x, w, b, **how))  # fmt: skip
case("conv_transpose2d groups", lambda x, w: ops.conv_transpose2d(x, w, groups=2),
     [normal(1, 4, 2, 2), normal(4, 3, 2, 2)],
     lambda t, x, w: t.nn.functional.conv_transpose2d(x, w, groups=2))  # fmt: skip

case("conv_transpose2d one image", lambda x, w, b: ops.conv_transpose2d(x, w, b, 2, 1, 1),
     [normal(2, 2, 3), normal(2, 3, 3, 2), normal(3)],
     lambda t, x, w, b: t.nn.functional.conv_transpose2d(x, w, b, 2, 1, 1))  # fmt: skip

WINDOWS = {
    "": ((2, 2, 4, 6), (2,), {}),
    " overlap": ((1, 2, 5, 5), (3, 2), {"padding": 1}),
    " ceil": ((2, 5, 4), ((3, 2), 2), {"ceil_mode": True}),
}
for what, (x, args, how) in WINDOWS.items():
    case(f"max_pool2d{what}", lambda x, a=args, how=how: ops.max_pool2d(x, *a, **how), [apart(*x)],
         lambda t, x, a=args, how=how: t.nn.functional.max_pool2d(x, *a, **how))  # fmt: skip
    case(f"avg_pool2d{what}", lambda x, a=args, how=how: ops.avg_pool2d(x, *a, **how), [normal(*x)],
         lambda t, x, a=args, how=how: t.nn.functional.avg_pool2d(x, *a, **how))  # fmt: skip
SEQUENCES = {
    "": ((2, 2, 6), (2,), {}),
    " overlap": ((2, 7), (3, 2), {"padding": 1}),
    " ceil": ((1, 2, 8), (3, 3), {"ceil_mode": True}),
}
for what, (x, args, how) in SEQUENCES.items():
    case(f"max_pool1d{what}", lambda x, a=args, how=how: ops.max_pool1d(x, *a, **how), [apart(*x)],
         lambda t, x, a=args, how=how: t.nn.functional.max_pool1d(x, *a, **how))  # fmt: skip
    case(f"avg_pool1d{what}", lambda x, a=args, how=how: ops.avg_pool1d(x, *a, **how), [normal(*x)],
         lambda t, x, a=args, how=how: t.nn.functional.avg_pool1d(x, *a, **how))  # fmt: skip
case("max_pool1d dilation", lambda x: ops.max_pool1d(x, 2, 1, 1, 2), [apart(1, 2, 5)],
     lambda t, x: t.nn.functional.max_pool1d(x, 2, 1, 1, 2))  # fmt: skip
case("avg_pool1d counted", lambda x: ops.avg_pool1d(x, 3, 2, 1, count_include_pad=False), [normal(1, 2, 5)],
     lambda t, x: t.nn.functional.avg_pool1d(x, 3, 2, 1, count_include_pad=False))  # fmt: skip
for length in (1, 3, 7):
    case(f"adaptive_avg_pool1d {length}", lambda x, s=length: ops.adaptive_avg_pool1d(x, s), [normal(1, 2, 5)],
         lambda t, x, s=length: t.nn.functional.adaptive_avg_pool1d(x, s))  # fmt: skip
case("max_pool2d dilation", lambda x: ops.max_pool2d(x, 2, 1, dilation=2), [apart(1, 1, 4, 5)],
     lambda t, x: t.nn.functional.max_pool2d(x, 2, 1, dilation=2))  # fmt: skip
case("avg_pool2d counted", lambda x: ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False), [normal(1, 2, 5, 4)],
     lambda t, x: t.nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False))  # fmt: skip
case("avg_pool2d divisor", lambda x: ops.avg_pool2d(x, 2, divisor_override=3), [normal(1, 1, 4, 4)],
     lambda t, x: t.nn.functional.avg_pool2d(x, 2, divisor_override=3))  # fmt: skip
for size in (1, (2, None), (3, 7)):
    case(f"adaptive_avg_pool2d {size}", lambda x, s=size: ops.adaptive_avg_pool2d(x, s), [normal(1, 2, 5, 4)],
         lambda t, x, s=size: t.nn.functional.adaptive_avg_pool2d(x, s))  # fmt: skip
