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
enum { PHILOX_VECTORS = 4, PHILOX_BATCH = 32 }; /* vectors at once; groups in a buffer */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
/* Elements are numbered modulo 2^64, their counters modulo 2^62. */
#define PHILOX_LAST (UINT64_MAX / 4)

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

/* A round of n vectors of counters: side by side, so that their chains of products overlap. */
struct philox_state {
    vi w0[PHILOX_VECTORS], w1[PHILOX_VECTORS], w2[PHILOX_VECTORS], w3[PHILOX_VECTORS];
};
static inline void philox_round(struct philox_state *w, int n, uint64_t k0, uint64_t k1) {
    for (int i = 0; i < n; i++) {
        vi p0 = vi_mul_low(w->w0[i], vi_set64(PHILOX_M0));
        vi p1 = vi_mul_low(w->w2[i], vi_set64(PHILOX_M1));
        w->w0[i] = vi_xor3(vi_swap(p1), w->w1[i], vi_set64(k0));
        w->w2[i] = vi_xor3(vi_swap(p0), w->w3[i], vi_set64(k1));
        w->w1[i] = p1;
        w->w3[i] = p0;
    }
}
/* Rounds 1 to 3; the words are those of the third but for w3, which is not used any more as it was. */
static inline void philox_start(const struct philox *p, struct philox_state *w, int n,
                                uint32_t counter) {
    const vi m0 = vi_set64(PHILOX_M0), m1 = vi_set64(PHILOX_M1);
    for (int i = 0; i < n; i++) {
        vi c = vi_add64(vi_set64(counter + (uint64_t)i * (VL / 2)), vi_zip_iota());
        vi p0 = vi_mul_low(c, m0);
        vi p1 = vi_mul_low(vi_xor(vi_swap(p0), vi_set64(p->w2_first)), m1);
        vi w0 = vi_xor(vi_swap(p1), vi_set64(p->w0_second)), w1 = p1;
        vi w2 = vi_xor(p0, vi_set64(p->w2_second));
        p0 = vi_mul_low(w0, m0);
        p1 = vi_mul_low(w2, m1);
        w->w0[i] = vi_xor3(vi_swap(p1), w1, vi_set64(p->k0[3]));
        w->w2[i] = vi_xor(vi_swap(p0), vi_set64(p->w2_third));
        w->w1[i] = p1;
        w->w3[i] = p0;
    }
}
/* The last round, and bits of 2 VL elements a vector: which words exceed the limit. */
static inline void philox_finish(const struct philox *p, const struct philox_state *w, int n,
                                 uint32_t limit, uint64_t *out) {
    vi limits = vi_set((int32_t)limit);
    for (int i = 0; i < n; i++) {
        vi p0 = vi_mul_low(w->w0[i], vi_set64(PHILOX_M0));
        vi p1 = vi_mul_low(w->w2[i], vi_set64(PHILOX_M1));
        vi w01 = vi_xor_low(vi_swap(p1), vi_xor(w->w1[i], vi_set64(p->k0[PHILOX_ROUNDS])));
        vi w23 = vi_xor_low(vi_swap(p0), vi_xor(w->w3[i], vi_set64(p->k1[PHILOX_ROUNDS])));
        uint64_t bits = vi_bits_above(vi_zip_low(w01, w23), limits) |
                        (uint64_t)vi_bits_above(vi_zip_high(w01, w23), limits) << VL;
        int at = i * 2 * VL;
        if (at % PHILOX_GROUP == 0)
            out[at / PHILOX_GROUP] = bits;
        else
            out[at / PHILOX_GROUP] |= bits << (at % PHILOX_GROUP);
    }
}
/* Bits of n vectors of counters from this one on; no counter passes 2^32. */
static inline void philox_vectors(const struct philox *p, uint32_t counter, int n, uint32_t limit,
                                  uint64_t *out) {
    struct philox_state w;
    philox_start(p, &w, n, counter);
    for (int r = 4; r < PHILOX_ROUNDS; r++) philox_round(&w, n, p->k0[r], p->k1[r]);
    philox_finish(p, &w, n, limit, out);
}

static uint64_t philox_scalar_group(const struct philox *p, uint64_t counter, uint32_t limit) {
    uint64_t bits = 0, seed = (uint64_t)p->seed[1] << 32 | p->seed[0];
    for (int i = 0; i < PHILOX_GROUP; i++) {
        uint64_t c = (counter + (uint64_t)i / 4) & PHILOX_LAST;
        struct rng_words r = rng_words(seed, p->stream, p->step, c);
        bits |= (uint64_t)(r.w[i % 4] > limit) << i;
    }
    return bits;
}

/* Bit i of the n groups: the word of element 4 counter + i exceeds the limit. */
static void philox_groups(struct philox *p, uint64_t counter, int64_t n, uint32_t limit,
                          uint64_t *out) {
    enum { EACH = PHILOX_GROUP / (2 * VL), MOST = PHILOX_VECTORS / EACH };
    while (n > 0) {
        int64_t done = MOST > 1 && n >= MOST ? MOST : 1;
        uint32_t lower = (uint32_t)counter, upper = (uint32_t)((counter & PHILOX_LAST) >> 32);
        if (upper != p->upper) philox_upper(p, upper);
        if (lower > UINT32_MAX - MOST * PHILOX_COUNTERS) {
            done = 1;
            *out = philox_scalar_group(p, counter, limit);
        } else if (done > 1) {
            philox_vectors(p, lower, PHILOX_VECTORS, limit, out);
        } else {
            philox_vectors(p, lower, EACH, limit, out);
        }
        counter += (uint64_t)(done * PHILOX_COUNTERS);
        out += done;
        n -= done;
    }
}

/* Bits of n groups of elements from `first` on: a start that is no multiple of 4 takes each group's
 * bits from two. */
static void dropout_groups(struct philox *p, uint64_t first, int64_t n, uint32_t threshold,
                           uint64_t *out) {
    int skip = (int)(first % 4);
    if (threshold == 0) {
        memset(out, 0xff, (size_t)n * sizeof *out);
        return;
    }
    /* w >> 8 >= threshold (up to 2^24) as w > limit. */
    philox_groups(p, first / 4, n + (skip > 0), (threshold << 8) - 1, out);
    for (int64_t g = 0; skip && g < n; g++)
        out[g] = out[g] >> skip | out[g + 1] << (PHILOX_GROUP - skip);
}

static void dropout_mask(const struct kern_dropout_mask *a, int64_t begin, int64_t end) {
    uint64_t first = a->first + (uint64_t)begin * PHILOX_GROUP;
    uint64_t bits[PHILOX_BATCH + 1];
    struct philox p;
    philox_init(&p, a->seed, a->stream, a->step, first / 4);
    for (int64_t g = begin; g < end; g += PHILOX_BATCH) {
        int64_t n = end - g < PHILOX_BATCH ? end - g : PHILOX_BATCH;
        dropout_groups(&p, a->first + (uint64_t)g * PHILOX_GROUP, n, a->threshold, bits);
        int64_t left = a->cols - g * PHILOX_GROUP;
        if (left < n * PHILOX_GROUP) bits[n - 1] &= (UINT64_C(1) << left % PHILOX_GROUP) - 1;
        memcpy(a->mask + 8 * g, bits, (size_t)(8 * n)); /* x86: the lowest byte first */
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
/* WIDE vectors where all is act. */
static inline void dropout_apply_wide(const struct kern_dropout_apply *a, int64_t i) {
    vf kept[WIDE], change[WIDE];
    for (int k = 0; k < WIDE; k++) {
        vf x = act_load((const act *)a->x + i + k * VL);
        kept[k] = vf_keep(dropout_bits(a->mask, i + k * VL), x * vf_set((float)a->inv_keep));
        change[k] = kept[k] - x;
    }
    act_store_wide((act *)a->kept + i, kept);
    if (a->change) act_store_wide((act *)a->change + i, change);
}

static void dropout_apply(const struct kern_dropout_apply *a, int64_t begin, int64_t end) {
    bool all_act = a->x_type == ACT_TYPE && a->kept_type == ACT_TYPE &&
                   (!a->change || a->change_type == ACT_TYPE);
    int64_t i = begin;
    for (; all_act && i + WIDE * VL <= end; i += WIDE * VL) dropout_apply_wide(a, i);
    for (; i < end; i += VL) dropout_apply_lanes(a, i, lanes_left(i, end));
}
