/* SPDX-License-Identifier: Apache-2.0 */
/* rng.c - Philox 4x32 with ten rounds; constants from the paper's section 3. */
#include "core/rng.h"

#include <math.h>

struct rng_words philox4x32_10(struct rng_words c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.w[0], p1 = (uint64_t)0xCD9E8D57u * c.w[2];
        c = (struct rng_words){{(uint32_t)(p1 >> 32) ^ c.w[1] ^ k0, (uint32_t)p1,
                                (uint32_t)(p0 >> 32) ^ c.w[3] ^ k1, (uint32_t)p0}};
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    return c;
}

struct rng_words rng_words(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element) {
    struct rng_words counter = {{(uint32_t)element, (uint32_t)(element >> 32), step, stream}};
    return philox4x32_10(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

static double unit_open(uint32_t hi, uint32_t lo) {
    uint64_t bits = (((uint64_t)hi << 32) | lo) >> 11;
    return ((double)bits + 0.5) * 0x1p-53;
}

double rng_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element) {
    struct rng_words r = rng_words(seed, stream, step, element);
    return unit_open(r.w[0], r.w[1]);
}

double rng_normal(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element) {
    struct rng_words r = rng_words(seed, stream, step, element);
    double u = unit_open(r.w[0], r.w[1]), v = unit_open(r.w[2], r.w[3]);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

__extension__ typedef unsigned __int128 wide; /* for the upper half of a 64 x 64 product */

/* Uniform in [0, n) without bias worth naming: 64 random bits scaled by n < 2^40. */
static int64_t below(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element, int64_t n) {
    struct rng_words r = rng_words(seed, stream, step, element);
    uint64_t bits = ((uint64_t)r.w[0] << 32) | r.w[1];
    return (int64_t)(((wide)bits * (uint64_t)n) >> 64);
}

void rng_permutation(uint64_t seed, uint32_t stream, uint32_t step, int64_t n, int64_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = below(seed, stream, step, (uint64_t)i, i + 1);
        int64_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
