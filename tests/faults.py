"""Would the tests notice? Puts one fault at a time into a copy of minidl and runs the tests of ops against it.

    python tests/faults.py              all faults, two at a time; exit 1 if one survives
    python tests/faults.py tanh einsum  only those of these files, or whose text contains one of these words

Each fault is (file, old text, new text); of several places of the old text outside docstrings it is the first.
Faults of compiled code run compiled, the others interpreted (NUMBA_DISABLE_JIT=1), which is faster here.
"""

import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis  # noqa: F401 (these three once, before the forks)
import pytest
import torch  # noqa: F401

ROOT = Path(__file__).parent.parent
TESTS = [
    "test_ops_gradients.py",
    "test_ops_torch.py",
    "test_matmul.py",
    "test_ops_layouts.py",
    "test_ops_bad_input.py",
    "test_ops_properties.py",
    "test_gradcheck.py",
    "test_conv.py",
    "test_norm.py",
    "test_recurrent.py",
    "test_attention.py",
]

FIRST = {
    "tile": "test_matmul.py",
    "linalg": "test_matmul.py",
    "ladder": "test_matmul.py",
    "gradcheck": "test_gradcheck.py",
    "vectors": "test_jit.py",
    "conv": "test_conv.py",
    "conv_kernels": "test_conv.py",
    "pool": "test_conv.py",
    "norm": "test_norm.py",
    "sums": "test_norm.py",
    "recurrent": "test_recurrent.py",
    "recurrent_kernels": "test_recurrent.py",
    "attention": "test_attention.py",
}

FAULTS = {
    "elementwise": [
        ("lambda dy: dy, lambda dy: -dy)", "lambda dy: dy, lambda dy: dy)"),
        ("lambda dy: dy * b, lambda dy: dy * a)", "lambda dy: dy * b, lambda dy: dy * b)"),
        ("-dy * y / b", "-dy / b"),
        ("-dy * y / b", "dy * y / b"),
        ("b - 1) if b else 0)", "b) if b else 0)"),
        ("np.where(np.equal(b, 0), 1, b)", "np.asarray(b)"),
        ("np.where(flat, 1, a)", "a"),
        ("np.greater_equal(b, 0)", "np.greater(b, 0)"),
        ("-dy * np.floor_divide(a, b)", "dy * np.floor_divide(a, b)"),
        ("dy * 2 * x", "dy * 2.002 * x"),
        ("dy / (2 * y)", "dy / y"),
        ("dy * (y + 1)", "dy * y"),
        ("float(np.log(2))", "0.6935"),
        ("dy / (1 + x)", "dy / x"),
        ("-dy * np.sin(x)", "dy * np.sin(x)"),
        ("dy * (1 + y * y)", "dy * (1 - y * y)"),
        ("dy / (1 + np.square(x))", "dy / (1 + x)"),
        ("dy * (1 - y * y)", "dy * (1 - y)"),
        ("dy * np.sign(x)", "dy * np.where(x >= 0, 1, -1)"),
        ("dtype.type(0.5)", "dtype.type(1)"),
        ("_share(np.less, b, a)", "_share(np.less, a, b)"),
        ("~np.less(x, min)", "np.greater(x, min)"),
        ("~np.less(x, min)", "np.greater_equal(x, min)"),
        ("inside & ~np.greater(x, max)", "~np.greater(x, max)"),
        ("np.where(condition, 0, dy)", "np.where(condition, dy, 0)"),
        ("1 - np.asarray(worse(a, b), ", "np.asarray(worse(b, a), "),
        ("if y.dtype in FLOATS else None", "if True else None"),
        ('if "f" not in', 'if "x" in'),
        ("np.log1p(floating(x))", "np.log(1 + floating(x))"),
    ],
    "reduce": [
        (
            "np.sum(x, axis=axes, keepdims=keepdims, dtype=np.float64), dtype",
            "np.sum(x, axis=axes, keepdims=keepdims), dtype",
        ),
        ("_spread(dy / n, x, axes)", "_spread(dy, x, axes)"),
        ("np.square(centred)", "np.square(x) - np.square(x - centred)"),
        ("(2 / divisor)", "(2 / x.size)"),
        ("_count(x, axes) - ddof", "_count(x, axes)"),
        ("1, y * divisor", "1, 2 * y * divisor"),
        ("np.where(y == 0, 1, y * divisor)", "y * divisor"),
        (" | np.isnan(x)", ""),
        ("dy / count", "dy"),
        ("(before * after)", "before"),
        ("rows[..., :0:-1]", "rows[..., -2::-1]"),
        ("running(dy[::-1], 0)[::-1]", "running(dy, 0)"),
        ("np.where(np.isinf(top), 0, top)", "top"),
        ("np.where(np.isinf(top), 0, top)", "0"),
        ("np.where(total == 0, 1, total)", "total"),
        ("    _count(x, axes)\n    top", "    top"),
        ("(one, rows[..., :-1]), axis=-1), axis=-1)", "(one, rows[..., :-1]), axis=-1), axis=0)"),
    ],
    "shape": [
        ("np.argsort(order)", "order"),
        ("np.moveaxis(dy, destination, source)", "np.moveaxis(dy, source, destination)"),
        ("list | tuple | np.ndarray", "list | np.ndarray"),
        ("np.add.at(dx, index, dy)", "dx[index] = dy"),
        ("np.flip(dy, axis)", "np.flip(dy)"),
        ("np.negative(shift)", "shift"),
        ("np.take(dy, i, axis)", "np.take(dy, 0, axis)"),
        ("(axis1, axis2), (-2, -1)", "(0, 1), (-2, -1)"),
        ("[:, 0]\n", "[:, 1]\n"),
        ("slice(start, end)", "slice(start, None)"),
        ('axis, x.ndim, "split")', "axis, x.ndim)"),
    ],
    "activation": [
        ("zero if x[i] < 0 else x[i]", "x[i] if x[i] > 0 else zero"),
        ("if y[i] <= 0 else", "if y[i] < 0 else"),
        ("zero if y[i] <= 0 else dy[i]", "dy[i] if y[i] > 0 else zero"),
        ("negative_slope * dy, dy", "dy, dy"),
        ("np.where(x <= 0, negative_slope * dy", "np.where(x < 0, negative_slope * dy"),
        ("dy * (y + alpha)", "dy * (y + 1)"),
        ("np.minimum(x, 0)", "x"),
        ("dy * (e / np.square(1 + e))", "dy * (y * (1 - y))"),
        ("s + x * (e /", "s - x * (e /"),
        ("linear = z > threshold", "linear = x > threshold"),
        ("linear = z > threshold", "linear = z >= threshold"),
        ("np.log1p(e)) / beta", "np.log1p(e))"),
        ("0.7071067811865476)\n\n", "0.7078)\n\n"),
        ("0.3989422804014327", "0.3993"),
        ("0.5 * math.erfc(-x[i] * 0.7071067811865476)", "0.5 * (1 + math.erf(x[i] * 0.7071067811865476))"),
        ("if density > 0 else density", ""),
        ("1 + 3 * 0.044715", "1 + 0.044715"),
        ("np.exp(-np.abs(u))", "np.exp(-u)"),
        ("x - np.max(x, axis=dim, keepdims=True)", "x"),
        ("dy - np.sum(dy * y,", "dy - np.mean(dy * y,"),
        ("np.exp(y) * np.sum(dy, axis=dim", "np.exp(y) * np.sum(dy, axis=-1"),
    ],
    "linalg": [
        ("c_i[j] + sums[j] if accumulate", "sums[j] if accumulate"),
        ("a_at + i * a_row + k * a_column", "a_at + i * a_row + k"),
        ("b_at + k * b_row : b_at + k * b_row + columns", "b_at + k * columns : b_at + k * columns + columns"),
        ("kept[k * width : k * width + columns]", "kept[k * columns : k * columns + columns]"),
        ("return raw[skip : skip + size]", "return raw[skip : skip + size - 1]"),
        ("(terms + parts - 1) // parts", "terms // parts"),
        ("(terms + TERMS - 1) // TERMS", "terms // TERMS"),
        ("ROWS, TERMS = 24, 160", "ROWS, TERMS = 24, 1 << 30"),
        ("turned and height > ROWS and width > columns", "height > ROWS and width > columns"),
        ("return turned and height > ROWS and width > columns", "return False and turned"),
        ("first = q // block * block", "first = 0"),
        ("length = min(block, terms - first)\n        source", "length = block\n        source"),
        ("(q - first) * ROWS", "(q - first) * (ROWS - 1)"),
        ("to = first * height", "to = first * rows"),
        ("range(0, rows - ROWS + 1, ROWS)", "range(0, rows - ROWS, ROWS)"),
        ("range(rows // ROWS * ROWS, rows)", "range(rows // ROWS * ROWS, rows - 1)"),
        ("range(0, max(terms, 1), block)", "range(0, terms, block)"),
        ("min(block, terms - first)\n        source, b_here", "min(block, terms)\n        source, b_here"),
        ("b_at + first * b_row, b_row", "b_at, b_row"),
        ("a_at + first * a_column + (i + r) * a_row", "a_at + first + (i + r) * a_row"),
        ("a_at + first * a_column + (i + r) * a_row", "a_at + first * a_column + r * a_row"),
        ("a_at + first * height + (i + r) * length", "a_at + first * height + (i + r) * block"),
        ("several and r == 0", "several and r == ROWS"),
        ("c_at + r * c_row, c_row, length", "c_at + r, c_row, length"),
        ("min(ROWS, rows - r), columns, first > 0", "min(ROWS, rows - r), columns, False"),
        ("min(ROWS, rows - r), columns", "ROWS, columns"),
        ("source, b_here, b_k = kept, 0, width", "source, b_here, b_k = kept, 0, columns"),
        ("several = rows > ROWS", "several = rows > 2 * ROWS"),
        ("parts = (terms + 15) // 16", "parts = terms // 16"),
        ("min(16, terms - k)", "16"),
        ("left[n * tiles * ROWS * terms :]", "left"),
        ("t) // across % down * tall", "t) % down * tall"),
        ("n * b_batch + j", "j"),
        ("(n * height + i) * width + j", "i * width + j"),
        ("min(tall, height - i)", "min(tall, height)"),
        ("min(wide, width - j)", "wide"),
        ("(a_flat, n * a_batch)", "(a_flat, 0)"),
        ("a_row, a_column, tiles * ROWS, packed", "a_row, a_column, height, packed"),
        ("range(first, min(first + 16, x.shape[2]))", "range(first, min(first + 15, x.shape[2]))"),
        ("x[n, i : i + 16, j], y[n, j, i : i + 16]", "x[n, i : i + 16, j], y[n, j, i : i + 15]"),
        ("turned.reshape(-1, *turned.shape[-2:])", "turned.reshape(-1, *b.shape[-2:])"),
        ("a, row, column = transposed, 1, height", "a, row, column = transposed, 1, terms"),
        ("and transposed.dtype is dtype", ""),
        ("db[..., 0] if b.ndim == 1 else db", "db"),
        ("dy * row, axis=0, dtype=np.float64", "dy * row, axis=0"),
        ("np.swapaxes(rows, -1, -2), back", "np.swapaxes(left, -1, -2), back"),
        ("terms * columns if b.ndim > 2 else 0", "terms * columns"),
    ],
    "ladder": [
        ("z[:] = 0", "pass"),
        ("row[:] = 0\n            at", "at"),
        ("min(first + 64, terms)", "first + 64"),
        ("min(256, width - left)", "min(256, width)"),
        ("whole = terms // 4 * 4", "whole = (terms + 3) // 4 * 4"),
        ("range(whole, terms)", "range(whole, terms - 1)"),
        ("k * a_column] * y[n * b_batch", "k] * y[n * b_batch"),
        ("a3 * b3[j]", "a3 * b2[j]"),
    ],
    "dense": [
        ("zero if s < 0 else s", "s if s > 0 else zero"),
        ("y_r[q] += b_j[q]", "y_r[q] += 0 * b_j[q]"),
        ("if y_n[j] <= 0", "if y_n[j] < 0"),
        ("for n in range(first, min(first + 16", "for n in range(first + 1, min(first + 16"),
        ("zero if y_n[j] <= 0 else dy_n[j]", "dy_n[j] if y_n[j] > 0 else zero"),
        ("        sums[:] = 0\n", ""),
        ("or latest[0] is not dy", ""),
        ("b_j = b[j : j + columns]", "b_j = b[:columns]"),
        ("range(0, dy.shape[0], 16)", "range(0, dy.shape[0], 1 << 30)"),
        ("min(first + 16, dy.shape[0])", "dy.shape[0]"),
        ("if b.shape != (outputs,)", "if b.size != outputs"),
    ],
    "loss": [
        (">= classes:", "> classes:"),
        ("& (y != ignore_index)", ""),
        ("if not z[j] <= top", "if z[j] > top + 1e9"),
        ("if label == ignore_index:\n            losses", "if label == -100:\n            losses"),
        ("if label == ignore_index:\n            dz", "if label == -100:\n            dz"),
        ("smoothing / classes * weight[j]", "smoothing / classes"),
        ("hit + spread * weights", "hit + smoothing"),
        ("dz[label] -= dlosses[n] * hit", "dz[label] -= hit"),
        ("(1.0 - smoothing) * weight[label]\n", "weight[label]\n"),
        ("weights[labels[counted]]", "weights[labels]"),
        ("labels[counted]].sum", "labels].sum"),
        ("dy / n if n else np.nan", "dy / losses.size"),
        ("dx[rows, columns] = -w[columns] *", "dx[rows, columns] = -"),
        ("dy / math.prod(shape)", "dy / shape[0]"),
        ("lambda dy: slope * -_spread", "lambda dy: slope * _spread"),
        ("size <= delta", "size <= 1"),
        ("size - 0.5 * delta", "size - 0.5"),
        ("np.clip(d, -delta, delta)", "np.clip(d, -1, 1)"),
        ("(p == 0) & ~np.isnan(x)", "p == 0"),
        ("(p == 0) & ~np.isnan(x)", "p < 0"),
        ("log_p - x + 1\n", "log_p - x\n"),
        ("1.0 / x.shape[0]", "1.0 / x.size"),
        ("q * t * np.where", "t * np.where"),
        ("q * below - above", "below - above"),
        ("if x.shape != t.shape", "if x.size != t.size"),
        ("2 * difference, reduction", "2.002 * difference, reduction"),
        ("    check_reduction(reduction, z.shape)\n", ""),
        ("np.exp(-np.abs(x))", "np.exp(x)"),
        ("total = np.float64(0)\n", "total = np.float32(0)\n"),
    ],
    "einsum": [
        ("sizes, later | set(indices))", "sizes, later)"),
        ("x.shape[a.index(index)] == 1", "True"),
        ("indices.index(c) for c in output", "output.index(c) for c in indices"),
        ("and c in later]", "]"),
        ("if x.shape[first] != x.shape[second]", "if False"),
        ("elif size != 1:", "else:"),
        ("len(set(output)) != len(output)", "False"),
        ("counts[c] == 1 and", ""),
    ],
    "inputs": [
        ("if reduction not in", "if reduction in ()  and reduction not in"),
        (" and 0 in shape", " and False"),
        ("x.dtype is dtype and x.flags.carray", "x.dtype is dtype"),
        ("values.sum(dtype=np.float64)", "values.mean(dtype=np.float64)"),
        (
            '    raise TypeError(f"expected {name} in',
            '    return array.astype(np.float64)\n    raise TypeError(f"expected {name} in',
        ),
    ],
    "dropout": [
        (">= p", ">= 1 - p"),
        ("1 / (1 - p), dtype", "1 / p, dtype"),
        ("lambda dy: dy * scale", "lambda dy: dy"),
        ("not 0 <= p <= 1", "p < 0 or p > 1"),
        ("generator or default_generator()", "default_generator()"),
    ],
    "gradcheck": [
        ("3 / 4, -3 / 20", "3 / 4, -3 / 21"),
        ("error > worst[3]", "error < worst[3]"),
        ("worst[3] <= 1", "worst[3] <= 1e9"),
        (
            "p.data, p.grad, p.requires_grad = data, grad, requires_grad",
            "p.grad, p.requires_grad = grad, requires_grad",
        ),
        ("if not _same(first, loss())", "if False"),
        ("if _same(gradient, expected) else np.inf", ""),
        ("variables | named", "variables"),
        (".normal(size=y.shape)", ".normal() * np.ones(y.shape)"),
    ],
    "tile": [  # compiled only
        ("builder.fadd(self.load(at, m), value) if accumulate", "value if accumulate"),
        ("emit.all_rows(first, left, 6 * vectors, 1)", "emit.all_rows(first, left, 5 * vectors, vectors)"),
        ('icmp_signed(">=", left, self.number(vectors * self.lanes))', 'icmp_signed(">", left, self.number(0))'),
        ('icmp_signed(">=", some, self.number(height))', 'icmp_signed(">", some, self.number(0))'),
        ("whole = builder.and_(whole, wide)", "pass"),
        ('icmp_signed("<=", r, last)', 'icmp_signed("<", r, last)'),
        ("builder.select(yes, r, last)", "r"),
        ("builder.if_then(inside[r])", "contextlib.nullcontext()"),
        ("builder.sub(columns, s)", "columns"),
        ("builder.store(kept, b)\n", "pass\n"),
        ("builder.store(self.number(WIDTH // self.bytes), b_row)", "pass"),
        ("builder.mul(loop.index, number(WIDTH // self.bytes))", "builder.mul(loop.index, number(16))"),
        ("builder.mul(loop.index, self.a_column)", "loop.index"),
        ("self.builder.mul(k, b_row)", "k"),
        ("builder.mul(r, self.c_row)", "r"),
        ("self.store(b_j, builder.gep(kept_k, [s]), None)", "self.store(b_j, builder.gep(kept_k, [starts[0]]), None)"),
        ("self.fma(a_ik, b_j", "self.fma(b_j, b_j"),
    ],
    "vectors": [  # compiled only
        ('icmp_signed("<", ir.Constant(index', 'icmp_signed("<=", ir.Constant(index'),
        ("emit.fma(d, e,", "emit.fma(d, d,"),
        ("emit.number(16 * n)", "emit.number(15 * n)"),
    ],
    "conv_kernels": [
        ("(w.shape[2] - 1) * geometry[DILATION_H] // geometry[STRIDE_H]", "(w.shape[2] - 1) // geometry[STRIDE_H]"),
        ("down % geometry[STRIDE_H] * geometry[STRIDE_W]", "down % geometry[STRIDE_H]"),
        ("down // geometry[STRIDE_H] * wide", "down // geometry[STRIDE_H] * high"),
        ("(padding - phase + stride - 1) // stride)", "(padding - phase) // stride)"),
        ("(size + padding - phase + stride - 1) // stride", "(size + padding - phase) // stride"),
        ("first * stride + phase - padding", "first * stride - padding"),
        (
            "((down * geometry[STRIDE_W] + across) * x.shape[0] + c) * high",
            "(down * geometry[STRIDE_W] + across + c) * high",
        ),
        ("source[q * geometry[STRIDE_W]]", "source[q]"),
        ("    x[:] = 0\n", ""),
        ("b_at + places[k] + columns]", "b_at + places[0] + columns]"),
        ("a_n[q] * b_n[q]", "a_n[q] * b_n[k]"),
        ("g * inside * high * wide + q, taps[k:]", "q, taps[k:]"),
        ("source[j] + b[o]", "source[j] + b[0]"),
        ("min(TERMS, terms - k), outputs", "min(TERMS, terms), outputs"),
        ("    apart[:] = 0\n    for n in range(first, last):", "    for n in range(first, last):"),
        ("        planes[:] = 0\n        for g", "        for g"),
        ("taps[tap] + q, high * wide", "taps[0] + q, high * wide"),
        ("sums[o * terms + k] += lane_sum", "sums[o * terms + k] = 1.001 * lane_sum"),
        ("group = q // outputs * inside * high * wide", "group = 0"),
        (
            "centred_sums(channel, channel, zero, zero, lanes)[0]",
            "centred_sums(channel, channel, zero, zero, lanes)[1]",
        ),
    ],
    "conv": [
        ("(total[0] // 2, total[1] // 2), (", "(total[0] // 2, total[0] // 2), ("),
        ("[..., ::-1, ::-1]", "[..., ::-1, :]"),
        (".swapaxes(1, 2)[", "[:, :, "),
        ("[d * (k - 1) - p for", "[d * (k - 1) - p + 0 * k if p else 0 for"),
        ("+ 1 + more[i] for i", "+ 1 for i"),
        ("y + b[:, None, None], (", "y, ("),
    ],
    "pool": [
        ("value > found or place < 0", "value >= found or place < 0"),
        ("(value != value and found == found)", "False"),
        ("np.uint32(not b <= a)", "np.uint32(b >= a)"),
        ("right_below + down if below", "right_below if below"),
        ("target[where[i, j]] += source[i, j]", "target[where[i, j]] = source[i, j]"),
        ("total / divisors[i, j]", "total"),
        ("part = dy[p, i, j] / divisors[i, j]", "part = dy[p, i, j]"),
        ("np.minimum(first + k_i, n + p_i)", "np.minimum(first + k_i, n)"),
        ("(count - 1) * s >= n + p", "(count - 1) * s > n + p"),
    ],
    "norm": [
        ("squares / count - off * off", "squares / (count - 1) - off * off"),
        ("(np.float64(centre) - mean[c]) * scale", "0.0"),
        ("mixed -= total * off", "pass"),
        ("total / count - off * slope", "total / count"),
        ("- (source[i] - centre) * slope) * scale", "- (source[i] - centre) * 1.001 * slope) * scale"),
        ("count / (count - 1)", "1"),
        ("(1 - momentum) * running_mean + momentum * mean", "momentum * running_mean + (1 - momentum) * mean"),
        ("* weight[i] + bias[i]", "* weight[i]"),
        ("x.shape[0] * num_groups, width", "num_groups, x.shape[0] * width"),
    ],
    "sums": [
        ("x[j] += x[j + 8]", "x[j] += x[j + 7]"),
        ("for i in range(whole, a.size)", "for i in range(whole + 1, a.size)"),
        ("d * e", "d * d"),
    ],
    "recurrent_kernels": [
        ("np.float32(-2) *", "np.float32(-1.999) *"),
        ("-2.0 * np.float64", "-1.999 * np.float64"),
        ("-t if x[j] < 0 else t\n    else", "t\n    else"),
        ("z[size + j] * c[j] + z[j] * z[2 * size + j]", "z[j] * c[j] + z[size + j] * z[2 * size + j]"),
        ("dh[j] * o[j] * (one - bent[j] * bent[j])", "dh[j] * o[j] * (one - bent[j])"),
        ("dc[j] * c[j] * f[j] * (one - f[j])", "dc[j] * c[j] * f[j]"),
        ("        dc[j] *= f[j]\n", "        dc[j] *= i[j]\n"),
        ("dnew[j] * from_state[j] * reset[j]", "dnew[j] * reset[j]"),
        ("dh[j] * (h[j] - new[j])", "dh[j] * (new[j] - h[j])"),
        ("own[2 * size + j] *= reset[j]", "own[2 * size + j] *= keep[j]"),
        ("steps - 1 - step if reverse else step", "step"),
        ("        dh[j] *= keep[j]\n", ""),
        ("if t >= lengths[n]", "if t > lengths[n]"),
        ("t + 1 if reverse else t - 1", "t - 1"),
        ("zero if z[j] <= 0 else dh[j]", "zero if z[j] < 0 else dh[j]"),
        ("dc[j] += upstream_c[j]", "pass"),
    ],
    "recurrent": [
        ("np.empty_like(x) if kind == GRU else dz", "dz"),
    ],
}
COMPILED = {
    ("linalg", "ROWS, TERMS = 24, 160"),
    ("linalg", "first = q // block * block"),
    ("linalg", "length = min(block, terms - first)\n        source"),
    ("linalg", "to = first * height"),
    ("linalg", "range(0, rows - ROWS + 1, ROWS)"),
    ("linalg", "range(0, max(terms, 1), block)"),
    ("linalg", "a_at + first * height + (i + r) * length"),
    ("linalg", "t) // across % down * tall"),
    ("linalg", "left[n * tiles * ROWS * terms :]"),
    ("linalg", "a_row, a_column, tiles * ROWS, packed"),
    ("linalg", "and transposed.dtype is dtype"),
    ("dense", "range(0, dy.shape[0], 16)"),
    ("dense", "min(first + 16, dy.shape[0])"),
    ("loss", "total = np.float64(0)\n"),
}
EQUIVALENT = {  # why a fault changes nothing that is promised
    ("tile", "emit.all_rows(first, left, 6 * vectors, 1)"): "which shape a tile has is a matter of speed",
    ("linalg", "return turned and height > ROWS and width > columns"): "when to copy A is a matter of speed",
    ("linalg", "(terms + parts - 1) // parts"): "blocks of any length are right; equal ones are a matter of speed",
    ("linalg", "(terms + TERMS - 1) // TERMS"): "blocks of up to 319 terms are as right",
    ("linalg", "several = rows > ROWS"): "when to copy B is a matter of speed",
    ("inputs", "x.dtype is dtype and x.flags.carray"): "interpreted kernels take any layout",
}


def source(module: str) -> str:
    return "minidl/gradcheck.py" if module == "gradcheck" else f"minidl/ops/{module}.py"


class FirstFailure:
    """A pytest plugin that keeps the name of the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.name = self.name or (report.nodeid.split("/")[-1] if report.failed else "")


def attempt(fault: tuple[str, str, str]) -> tuple[str, float]:
    """What the tests make of this fault: "killed by …", "SURVIVED" or "STALE" (its text is gone).

    Runs in a forked process of its own, where PyTorch and pytest are imported already and minidl is not.
    """
    module, old, new = fault
    began = time.monotonic()
    text = (ROOT / source(module)).read_text()
    code = re.sub(r'""".*?"""', lambda docstring: " " * len(docstring[0]), text, flags=re.DOTALL)
    if (at := code.find(old)) < 0:
        return "STALE", 0.0
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nothing:
        copy = Path(directory)
        for part in ("minidl", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / source(module)).write_text(text[:at] + new + text[at + len(old) :])
        os.chdir(copy)
        os.environ.update(PYTHONPATH=directory, MINIDL_CACHE=str(copy / "cache"), PYTHONDONTWRITEBYTECODE="1")
        if module not in ("tile", "vectors") and (module, old) not in COMPILED:
            os.environ["NUMBA_DISABLE_JIT"] = "1"
        sys.path[:] = [directory, *(p for p in sys.path if Path(p) not in (ROOT, ROOT / "tests"))]
        sys.dont_write_bytecode = True
        os.dup2(nothing.fileno(), 1)
        first = FIRST.get(module, TESTS[0])
        ops = re.findall(r"@op\ndef (\w+)", text) or [module]
        rest = [f"tests/{t}" for t in TESTS if t != first]
        plugin, status = FirstFailure(), 0
        options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
        # The likeliest first: this file's own ops; what is not needed is not even collected.
        for tests in (
            [f"tests/{TESTS[0]}", "-k", " or ".join(ops)] if first == TESTS[0] else [],
            [f"tests/{first}"],
            rest,
        ):
            status = status or int(pytest.main([*options, *tests], plugins=[plugin]) if tests else 0)
            status = 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status
        os.chdir(ROOT)
    return f"killed by {plugin.name or f'exit {status}'}" if status else "SURVIVED", time.monotonic() - began


def apart(fault: tuple[str, str, str]) -> tuple[str, float]:
    """`attempt` in a process of its own: a wrong kernel may well end it."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(attempt(fault)))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        process.join()
        return f"killed by the process ending with {process.exitcode}", 0.0
    finally:
        process.join()


def main() -> int:
    words = sys.argv[1:]
    faults = [
        (module, old, new)
        for module, pairs in FAULTS.items()
        for old, new in pairs
        if not words or any(w == module or w in old for w in words)
    ]
    left = 0
    with ThreadPoolExecutor(2) as pool:
        for (module, old, new), (outcome, seconds) in zip(faults, pool.map(apart, faults), strict=True):
            why = EQUIVALENT.get((module, old)) if outcome == "SURVIVED" else None
            left += not why and not outcome.startswith("killed")
            verdict = f"equivalent: {why}" if why else outcome
            print(f"{seconds:5.1f} s  {module:11} {old!r} → {new!r}: {verdict}", flush=True)
    print(f"{len(faults)} faults, {left} not noticed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
