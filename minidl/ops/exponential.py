"""eˣ inside kernels as plain arithmetic, which LLVM can vectorise, unlike a call of `math.exp`.

eˣ = 2ⁿ·eʳ with n = round(x / ln 2) and r = x − n·ln 2, |r| ≤ 0.35, where a short polynomial is accurate to the last
digits. Adding 1.5·2²³ + 127 (in float64 1.5·2⁵² + 1023) rounds x / ln 2 and leaves n + 127 in the low bits of the sum,
which shifted to the exponent's place are 2ⁿ (Schraudolph 1999; Cody and Waite 1980, chapter 6).

Only for x ≤ 0, as in a softmax or a density: below −87.3 (−708.4) the result is 0, and NaN stays NaN.
"""

from __future__ import annotations

import numpy as np

from minidl.jit import kernel


@kernel(fma=True)
def exp_float32(x: np.float32) -> np.float32:
    """eˣ for x ≤ 0, with a relative error below 9e-8; 0 below −87.3, NaN for NaN."""
    lowest, shift = np.float32(-88.0), np.float32(12582912.0 + 127)
    z = lowest if x < lowest else x
    rounded = z * np.float32(1.44269504088896) + shift
    n = rounded - shift
    r = z - n * np.float32(0.693359375)
    r = r + n * np.float32(2.12194440e-4)  # ln 2 in two parts, the first with few bits, so that n times it is exact
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * (r * r) + r + np.float32(1)
    return p * np.int32(np.float32(rounded).view(np.int32) << np.int32(23)).view(np.float32)


@kernel(fma=True)
def exp_float64(x: np.float64) -> np.float64:
    """eˣ for x ≤ 0, with a relative error below 3e-16; 0 below −708.4, NaN for NaN."""
    lowest, shift = np.float64(-709.0), np.float64(6755399441055744.0 + 1023)
    z = lowest if x < lowest else x
    rounded = z * 1.4426950408889634 + shift
    n = rounded - shift
    r = z - n * 6.93145751953125e-1
    r = r - n * 1.42860682030941723212e-6
    p = 1.6059043836821613e-10  # 1/13!, 1/12!, …: the series of eʳ
    p = p * r + 2.08767569878681e-9
    p = p * r + 2.505210838544172e-8
    p = p * r + 2.755731922398589e-7
    p = p * r + 2.7557319223985893e-6
    p = p * r + 2.48015873015873e-5
    p = p * r + 1.984126984126984e-4
    p = p * r + 1.388888888888889e-3
    p = p * r + 8.333333333333333e-3
    p = p * r + 4.1666666666666664e-2
    p = p * r + 1.6666666666666666e-1
    p = p * r + 0.5
    p = p * (r * r) + r + 1.0
    return p * np.int64(np.float64(rounded).view(np.int64) << np.int64(52)).view(np.float64)
