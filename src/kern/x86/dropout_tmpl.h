/* SPDX-License-Identifier: Apache-2.0 */
/* dropout_tmpl.h - dropout with the masks of the reference, many Philox counters at a time.
 *
 *     counter c            gives elements  4 c .. 4 c + 3
 *     a group              16 counters, 64 elements, one word of mask bits
 *
 * Every lane of 64 bits holds a 32-bit word of one counter in its lower half (products want it there);
 * what the upper half holds does not matter.  A product's upper half is brought down by exchanging the
 * halves.  In the last round the two halves are both wanted, and the counters stand in such an order
 * that the words come out in the order of the elements, 16 (8) of which a comparison turns into bits.
 *
 * The counter's upper half, the step and the stream are the same for all lanes: of the first two rounds
 * half the products are scalars (struct philox).  A group whose counters pass a multiple of 2^32 is left
 * to core/rng.h. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif
#include "core/rng.h"

enum { PHILOX_ROUNDS = 10, PHILOX_GROUP = 64, PHILOX_COUNTERS = PHILOX_GROUP / 4 };
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u

/* What is the same for all counters with one upper half.  Words of round r from 1:
 *   w0 = high(M1 w2) ^ w1 ^ k0[r],  w1 = low(M1 w2),  w2 = high(M0 w0) ^ w3 ^ k1[r],  w3 = low(M0 w0) */
struct philox {
    uint32_t seed[2], stream, step;
    uint64_t k0[PHILOX_ROUNDS + 1], k1[PHILOX_ROUNDS + 1];
    uint32_t upper;
    uint64_t w2_first;            /* stream ^ k1[1] */
    uint64_t w0_second;           /* w1 ^ k0[2] */
    uint64_t w2_second, w2_third; /* high(M0 w0) ^ k1[2], low(M0 w0) ^ k1[3] */
};

static void philox_upper(struct philox *p, uint32_t upper) {
    uint64_t p1 = (uint64_t)PHILOX_M1 * p->step;
    uint32_t w0 = (uint32_t)(p1 >> 32) ^ upper ^ (uint32_t)p->k0[1];
    uint64_t p0 = (uint64_t)PHILOX_M0 * w0;
    p->upper = upper;
    p->w2_first = p->stream ^ p->k1[1];
    p->w0_second = (uint32_t)p1 ^ p->k0[2];
    p->w2_second = (p0 >> 32) ^ p->k1[2];
    p->w2_third = (uint32_t)p0 ^ p->k1[3];
}

static void philox_init(struct philox *p, uint64_t seed, uint32_t stream, uint32_t step,
                        uint64_t counter) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    *p = (struct philox){.seed = {k0, k1}, .stream = stream, .step = step};
    for (int r = 1; r <= PHILOX_ROUNDS; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        p->k0[r] = k0;
        p->k1[r] = k1;
    }
    philox_upper(p, (uint32_t)(counter >> 32));
}

/* Bits of 2 VL elements: of the counters `lower`, in the order of vi_zip_iota, which words exceed
 * the limit. */
static inline uint32_t philox_bits(const struct philox *p, vi lower, vi limit) {
    const vi m0 = vi_set64(PHILOX_M0), m1 = vi_set64(PHILOX_M1);
    vi p0 = vi_mul_low(lower, m0);
    vi w2 = vi_xor(vi_swap(p0), vi_set64(p->w2_first)), w3 = p0;
    vi p1 = vi_mul_low(w2, m1);
    vi w0 = vi_xor(vi_swap(p1), vi_set64(p->w0_second)), w1 = p1;
    w2 = vi_xor(w3, vi_set64(p->w2_second));
    p0 = vi_mul_low(w0, m0);
    p1 = vi_mul_low(w2, m1);
    w0 = vi_xor3(vi_swap(p1), w1, vi_set64(p->k0[3]));
    w2 = vi_xor(vi_swap(p0), vi_set64(p->w2_third));
    w1 = p1, w3 = p0;
    for (int r = 4; r < PHILOX_ROUNDS; r++) {
        p0 = vi_mul_low(w0, m0);
        p1 = vi_mul_low(w2, m1);
        w0 = vi_xor3(vi_swap(p1), w1, vi_set64(p->k0[r]));
        w2 = vi_xor3(vi_swap(p0), w3, vi_set64(p->k1[r]));
        w1 = p1, w3 = p0;
    }
    p0 = vi_mul_low(w0, m0);
    p1 = vi_mul_low(w2, m1);
    vi w01 = vi_xor_low(vi_swap(p1), vi_xor(w1, vi_set64(p->k0[PHILOX_ROUNDS])));
    vi w23 = vi_xor_low(vi_swap(p0), vi_xor(w3, vi_set64(p->k1[PHILOX_ROUNDS])));
    return vi_bits_above(vi_zip_low(w01, w23), limit) | vi_bits_above(vi_zip_high(w01, w23), limit)
                                                            << VL;
}

static uint64_t philox_scalar_group(const struct philox *p, uint64_t counter, uint32_t limit) {
    uint64_t bits = 0, seed = (uint64_t)p->seed[1] << 32 | p->seed[0];
    for (int i = 0; i < PHILOX_GROUP; i++) {
        struct rng_words r = rng_words(seed, p->stream, p->step, counter + (uint64_t)i / 4);
        bits |= (uint64_t)(r.w[i % 4] > limit) << i;
    }
    return bits;
}

/* Bit i: the word of element 4 counter + i exceeds the limit. */
static inline uint64_t philox_group(struct philox *p, uint64_t counter, uint32_t limit) {
    uint32_t lower = (uint32_t)counter, upper = (uint32_t)(counter >> 32);
    if (lower > UINT32_MAX - PHILOX_COUNTERS) return philox_scalar_group(p, counter, limit);
    if (upper != p->upper) philox_upper(p, upper);
    vi c = vi_add64(vi_set64(lower), vi_zip_iota()), limits = vi_set((int32_t)limit);
    uint64_t bits = 0;
    for (int i = 0; i < PHILOX_GROUP; i += 2 * VL) {
        bits |= (uint64_t)philox_bits(p, c, limits) << i;
        c = vi_add64(c, vi_set64(VL / 2));
    }
    return bits;
}

/* w >> 8 >= threshold, for threshold > 0 (2^24 included), as w > limit. */
static inline uint32_t philox_limit(uint32_t threshold) {
    return (threshold << 8) - 1;
}

/* A row whose first element is no multiple of 4 takes each group's bits from two. */
static void dropout_mask(const struct kern_dropout_mask *a, int64_t begin, int64_t end) {
    uint64_t e = a->first + (uint64_t)begin * PHILOX_GROUP, counter = e / 4, bits = 0, next = 0;
    int skip = (int)(e % 4);
    uint32_t limit = philox_limit(a->threshold);
    struct philox p;
    philox_init(&p, a->seed, a->stream, a->step, counter);
    if (skip) next = philox_group(&p, counter, limit);
    for (int64_t g = begin; g < end; g++) {
        if (skip) {
            bits = next >> skip;
            next = philox_group(&p, counter += PHILOX_COUNTERS, limit);
            bits |= next << (PHILOX_GROUP - skip);
        } else {
            bits = philox_group(&p, counter, limit);
            counter += PHILOX_COUNTERS;
        }
        if (a->threshold == 0) bits = UINT64_MAX;
        int64_t left = a->cols - g * PHILOX_GROUP;
        if (left < PHILOX_GROUP) bits &= (UINT64_C(1) << left) - 1;
        memcpy(a->mask + 8 * g, &bits, sizeof bits); /* x86: the lowest byte first */
    }
}

/* VL bits of a mask from element i, a multiple of VL. */
static inline uint32_t dropout_bits(const uint8_t *mask, int64_t i) {
    uint32_t bits = mask[i / 8];
    if (VL == 16) bits |= (uint32_t)mask[i / 8 + 1] << 8;
    return bits;
}

static inline void dropout_apply_lanes(const struct kern_dropout_apply *a, int64_t i, int64_t n) {
    vf x = vf_load_any(a->x_type, a->x, i, n);
    /* Not x times 0: a dropped infinity is 0. */
    vf v = vf_keep(dropout_bits(a->mask, i), x * vf_set((float)a->inv_keep));
    vf_store_any(a->kept_type, a->kept, i, n, v);
    if (a->change) vf_store_any(a->change_type, a->change, i, n, v - x);
}

static void dropout_apply(const struct kern_dropout_apply *a, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + VL <= end; i += VL) dropout_apply_lanes(a, i, VL);
    if (i < end) dropout_apply_lanes(a, i, end - i);
}

/* Elements [i, i + n), n <= 64, with their bits. */
static void dropout_piece(const struct kern_dropout *a, int64_t i, int64_t n, uint64_t bits) {
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = lanes_left(j, n);
        vf x = vf_load_any(a->x_type, a->x, i + j, m);
        vf v = vf_keep((uint32_t)(bits >> j), x * vf_set((float)a->inv_keep));
        if (a->difference) v = v - x;
        if (a->accumulate) v = v + vf_load_any(a->y_type, a->y, i + j, m);
        vf_store_any(a->y_type, a->y, i + j, m, v);
    }
}

static void dropout(const struct kern_dropout *a, int64_t begin, int64_t end) {
    struct philox p;
    philox_init(&p, a->seed, a->stream, a->step, (a->first + (uint64_t)begin) / 4);
    for (int64_t i = begin; i < end;) {
        uint64_t e = a->first + (uint64_t)i, bits = UINT64_MAX;
        int64_t skip = (int64_t)(e % 4), n;
        n = PHILOX_GROUP - skip < end - i ? PHILOX_GROUP - skip : end - i;
        if (a->threshold > 0) bits = philox_group(&p, e / 4, philox_limit(a->threshold)) >> skip;
        dropout_piece(a, i, n, bits);
        i += n;
    }
}
