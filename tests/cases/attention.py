"""Cases of attention and of what generative models need."""

from typing import Any

import numpy as np

from cases.table import case, normal, uniform
from minidl import ops

KEPT = np.array([[True, False, True, True], [False, False, True, False], [True, True, True, True]])
PADDING = np.array([[[True, True, False, True]], [[False, True, True, False]]])
BLIND = KEPT & np.array([[True], [False], [True]])
ADDED = np.where(KEPT, np.arange(12).reshape(3, 4) / 7, -np.inf)
HOW: dict[str, dict[str, Any]] = {
    "": {}, " causal": {"is_causal": True}, " scale": {"scale": 0.3}, " kept": {"attn_mask": KEPT},
    " padding": {"attn_mask": PADDING}, " blind": {"attn_mask": BLIND}, " added": {"attn_mask": ADDED},
    " one mask": {"attn_mask": KEPT[0]},
}  # fmt: skip


def by_torch(t: Any, *inputs: Any, how: dict[str, Any]) -> Any:
    how = dict(how)
    mask = how.pop("attn_mask", None)
    if isinstance(mask, np.ndarray):
        mask = t.tensor(mask if mask.dtype == bool else mask.astype(inputs[0].detach().numpy().dtype))
    return t.nn.functional.scaled_dot_product_attention(*inputs[:3], mask if len(inputs) < 4 else inputs[3], **how)


NAME = "scaled_dot_product_attention"
for name, how in HOW.items():
    case(NAME + name, lambda q, k, v, how=how: ops.scaled_dot_product_attention(q, k, v, **how),
         [normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 2)],
         lambda t, *x, how=how: by_torch(t, *x, how=how))  # fmt: skip
for name, (q, k, v) in {
    "broadcast": ((2, 1, 3, 2), (3, 2, 2), (2, 1, 2, 1)), "no batch": ((3, 2), (4, 2), (4, 3)),
    "one": ((1, 1, 1), (1, 1, 1), (1, 1, 1)), "one query": ((2, 1, 3), (2, 5, 3), (2, 5, 3)),
    "one key": ((2, 3, 2), (2, 1, 2), (2, 1, 4)),
}.items():  # fmt: skip
    case(f"{NAME} {name}", ops.scaled_dot_product_attention, [normal(*q), normal(*k), normal(*v)],
         lambda t, *x: by_torch(t, *x, how={}))  # fmt: skip
for causal, (queries, keys) in ((True, (5, 3)), (True, (3, 6))):
    case(f"{NAME} causal {queries} {keys}",
         lambda q, k, v, c=causal: ops.scaled_dot_product_attention(q, k, v, is_causal=c),
         [normal(2, queries, 3), normal(2, keys, 3), normal(2, keys, 2)],
         lambda t, *x, c=causal: by_torch(t, *x, how={"is_causal": c}))  # fmt: skip
for name, mask in (("mask", (2, 3, 4)), ("shared mask", (1, 4)), ("mask column", (3, 1))):
    case(f"{NAME} {name}", ops.scaled_dot_product_attention,
         [normal(2, 3, 2), normal(2, 4, 2), normal(2, 4, 3), normal(*mask)],
         lambda t, *x: by_torch(t, *x, how={}))  # fmt: skip


def divergence(t: Any, mu: Any, log_var: Any, reduction: str) -> Any:
    kl = t.distributions.kl_divergence(t.distributions.Normal(mu, t.exp(log_var / 2)), t.distributions.Normal(0.0, 1.0))
    return kl if reduction == "none" else getattr(kl, reduction)()


for reduction in ("sum", "mean", "none"):
    case(f"gaussian_kl {reduction}", lambda m, s, r=reduction: ops.gaussian_kl(m, s, r),
         [normal(3, 4), uniform(-2, 1, 3, 4)], lambda t, m, s, r=reduction: divergence(t, m, s, r))  # fmt: skip
EPSILON = np.random.default_rng(3).standard_normal((3, 4), np.float32)
case("reparameterise", lambda m, s: ops.reparameterise(m, s, np.random.default_rng(3)),
     [normal(3, 4), uniform(-2, 1, 3, 4)], lambda t, m, s: m + t.exp(s / 2) * t.tensor(EPSILON))  # fmt: skip
for name, shape in (("", 5), (" axes", (4, 5))):
    inner = (5,) if name == "" else shape
    case(f"layer_norm{name}", lambda x, w, b, s=shape: ops.layer_norm(x, s, w, b),
         [normal(2, 4, 5), normal(*inner), normal(*inner)],
         lambda t, x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b))  # fmt: skip
