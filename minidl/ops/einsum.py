"""einsum, composed of diagonals, sums, transpositions and batched matrix products, and so are its gradients."""

from __future__ import annotations

import math
from collections import Counter

from minidl.ops.linalg import matmul
from minidl.ops.reduce import sum as sum_over
from minidl.ops.shape import diagonal, reshape, transpose
from minidl.tensor import ArrayLike, Tensor

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum(subscripts: str, *operands: ArrayLike) -> Tensor:
    """y[output] = Σ over the indices not in the output of the product of the operands, e.g. "bij,bjk->bik".

    As `np.einsum`: an index repeated in one operand takes its diagonal, "..." stands for axes that broadcast, and
    without "->" the output has the indices that occur once, in alphabetical order. Operands are multiplied
    from left to right, each pair as one batched matrix product. float32 or float64.

    ValueError: malformed subscripts, or shapes that do not fit them.
    """
    tensors = [x if isinstance(x, Tensor) else Tensor(x) for x in operands]
    terms, output = _parse(subscripts, tensors)
    sizes: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        for index, size in zip(term, x.shape, strict=True):
            if sizes.setdefault(index, size) in (1, size):
                sizes[index] = size
            elif size != 1:
                raise ValueError(
                    f"einsum: index {index!r} of {subscripts!r} is {sizes[index]} in one operand, {size} in another"
                )
    y, indices = tensors[0], terms[0]
    for i in range(len(tensors)):
        later = set(output).union(*terms[i + 1 :])
        if i == 0:
            y, indices = _reduce(y, indices, later)
        else:
            x, term = _reduce(tensors[i], terms[i], later | set(indices))
            y, indices = _multiply(y, indices, x, term, later)
    if indices != output:
        y = transpose(y, [indices.index(c) for c in output])
    return y


def _parse(subscripts: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """One letter per axis for each operand and the output; "..." becomes unused letters."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, found {len(tensors)}")
    spare = [c for c in _LETTERS if c not in subscripts]
    hidden = [x.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, tensors, strict=True)]
    dots = "".join(spare[: max(0, *hidden)])
    parsed = []
    for term, x, n in zip(terms, tensors, hidden, strict=True):
        full = term.replace("...", dots[len(dots) - n :] if n > 0 else "")
        if n < 0 or len(full) != x.ndim or not all(c in _LETTERS for c in full):
            raise ValueError(f"einsum: {term!r} in {subscripts!r} does not fit an operand of shape {x.shape}")
        parsed.append(full)
    counts = Counter("".join(parsed))
    if not arrow:
        right = "..." * bool(dots) + "".join(sorted(c for c in counts if counts[c] == 1 and c not in dots))
    output = right.replace("...", dots)
    if any(c not in counts for c in output) or len(set(output)) != len(output):
        raise ValueError(f"einsum: the output of {subscripts!r} needs indices of the operands, each once")
    return parsed, output


def _reduce(x: Tensor, term: str, wanted: set[str]) -> tuple[Tensor, str]:
    """x with its diagonals taken and the indices summed over that are not wanted."""
    for index in [c for c in dict.fromkeys(term) if term.count(c) > 1]:
        while term.count(index) > 1:
            first = term.index(index)
            second = term.index(index, first + 1)
            if x.shape[first] != x.shape[second]:
                raise ValueError(f"einsum: index {index!r} is {x.shape[first]} and {x.shape[second]} in one operand")
            x = diagonal(x, first, second)
            term = term[:first] + term[first + 1 : second] + term[second + 1 :] + index
    lonely = tuple(i for i, c in enumerate(term) if c not in wanted)
    if lonely:
        x = sum_over(x, lonely)
        term = "".join(c for c in term if c in wanted)
    return x, term


def _multiply(x: Tensor, a: str, y: Tensor, b: str, later: set[str]) -> tuple[Tensor, str]:
    """The product of two, summed over their common indices that are not needed later."""
    # An index of size 1 in only one of them broadcasts: matmul does so for batch axes; elsewhere it is dropped.
    for index in [c for c in a if c in b and x.shape[a.index(c)] != y.shape[b.index(c)]]:
        if x.shape[a.index(index)] == 1:
            x, a = sum_over(x, a.index(index)), a.replace(index, "")
        else:
            y, b = sum_over(y, b.index(index)), b.replace(index, "")
    x, a = _reduce(x, a, later | set(b))
    y, b = _reduce(y, b, later | set(a))
    batch = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows = [c for c in a if c not in b]
    columns = [c for c in b if c not in a]

    def arrange(t: Tensor, term: str, *groups: list[str]) -> Tensor:
        order = [term.index(c) for group in groups for c in group]
        shape = [math.prod(t.shape[term.index(c)] for c in group) for group in groups]
        return reshape(transpose(t, order), shape)

    size = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    z = matmul(arrange(x, a, batch, rows, inner), arrange(y, b, batch, inner, columns))
    indices = batch + rows + columns
    return reshape(z, [size[c] for c in indices]), "".join(indices)
