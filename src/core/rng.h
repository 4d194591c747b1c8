/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A number is a pure function of (seed, stream, step, element): nothing is stored, any element can
 * be recomputed in any order on any thread.  Streams keep uses apart; stream ids are made with
 * rng_stream from one of the purposes below and an index (a module, an epoch). */
#ifndef MIL_CORE_RNG_H
#define MIL_CORE_RNG_H

#include <stdint.h>

enum rng_purpose {
    RNG_INIT = 1, /* weights and adapter factors */
    RNG_SHUFFLE,  /* data order */
    RNG_DROPOUT,  /* index: the adapted module */
    RNG_SAMPLE,   /* token sampling */
    RNG_SELECT,   /* choice of singular triplets */
    RNG_TEST
};

struct rng_words {
    uint32_t w[4];
};

static inline uint32_t rng_stream(enum rng_purpose purpose, uint32_t index) {
    return ((uint32_t)purpose << 24) ^ index;
}

/* Four independent 32-bit words for counter `element` of (seed, stream, step). */
struct rng_words rng_words(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element);
/* The bare bijection, for the published test vectors. */
struct rng_words philox4x32_10(struct rng_words counter, uint32_t key0, uint32_t key1);

/* Uniform in [0, 1), 24 bits; uniform in (0, 1) double, 53 bits. */
static inline float rng_unit_f32(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}
double rng_uniform(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element);
/* Standard normal (Box-Muller of the two halves of one counter). */
double rng_normal(uint64_t seed, uint32_t stream, uint32_t step, uint64_t element);
/* Fisher-Yates permutation of 0..n-1 into out. */
void rng_permutation(uint64_t seed, uint32_t stream, uint32_t step, int64_t n, int64_t *out);

#endif
