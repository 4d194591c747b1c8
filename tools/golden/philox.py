# SPDX-License-Identifier: Apache-2.0
"""Philox 4x32-10 from the paper (Salmon et al., SC 2011) on numpy arrays, and what the program draws with
it: the random starts of the methods, the choice of triplets, dropout masks (src/core/rng.h, backend.h)."""
import numpy as np

INIT, SHUFFLE, DROPOUT, SAMPLE, SELECT = range(1, 6)


def words(seed, purpose, index, step, element):
    """Four uint64 arrays of 32-bit words for the counters `element`."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1 = element & low, element >> np.uint64(32)
    c2, c3 = np.full_like(c0, step), np.full_like(c0, (purpose << 24) ^ index)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = ((p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & low,
                          (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & low)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def unit24(seed, purpose, index, step, first, count):
    """Numbers first .. first + count - 1 in [0, 1), four a counter, as float64."""
    begin = first // 4
    group = np.arange(begin, (first + count + 3) // 4, dtype=np.uint64)
    flat = np.stack(words(seed, purpose, index, step, group), axis=1).reshape(-1)
    flat = flat[first - 4 * begin:first - 4 * begin + count]
    return (flat >> np.uint64(8)).astype(np.float64) * 2.0**-24


def kaiming(seed, module, r, n):
    """LoRA's A: uniform in +-1 / sqrt(n), rounded to f32."""
    u = unit24(seed, INIT, module, 0, 0, r * n)
    return ((2 * u - 1) / np.sqrt(n)).astype(np.float32).astype(np.float64).reshape(r, n)


def normal(seed, module, step, rows, cols, deviation):
    """Box-Muller over the two 53-bit halves of a counter, one number a counter, rounded to f32."""
    w = words(seed, INIT, module, step, np.arange(rows * cols, dtype=np.uint64))
    unit = [((((w[2 * i] << np.uint64(32)) | w[2 * i + 1]) >> np.uint64(11)).astype(np.float64) + 0.5)
            * 2.0**-53 for i in range(2)]
    z = np.sqrt(-2 * np.log(unit[0])) * np.cos(6.283185307179586 * unit[1])
    return (deviation * z).astype(np.float32).astype(np.float64).reshape(rows, cols)


def chosen(seed, module, k, r):
    """The first r of a Fisher-Yates permutation of 0..k-1, ascending."""
    w = words(seed, SELECT, module, 0, np.arange(k, dtype=np.uint64))
    order = list(range(k))
    for i in range(k - 1, 0, -1):
        j = (((int(w[0][i]) << 32) | int(w[1][i])) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return sorted(order[:r])


def mask(seed, module, step, sample, tokens, cols, p):
    """m / (1 - p) of one sample's rows: token t of sample i has row key i 2^24 + t."""
    first = (sample << 24) * cols
    u = unit24(seed, DROPOUT, module, step, first, tokens * cols)
    return (u >= np.ceil(p * 2**24) * 2.0**-24).reshape(tokens, cols) / (1 - p)
