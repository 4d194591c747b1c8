/* SPDX-License-Identifier: Apache-2.0 */
/* dropout_tmpl.h - dropout with the masks of the reference, several Philox counters at a time.
 *
 *     counter c      gives elements  4 c .. 4 c + 3
 *     lane l         counter first / 4 + l
 *     words[k][l] -> element 4 (first / 4 + l) + k
 *
 * A piece of 4 * LANES elements that begins on a multiple of 4 is made at once; what of it lies
 * outside the range is thrown away. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum { PHILOX_LANES = 16, PHILOX_PIECE = 4 * PHILOX_LANES };

/* The ten rounds of core/rng.c on lanes; 64-bit lanes, so that a product's halves are shifts. */
static void philox_piece(const struct kern_dropout *a, uint64_t counter, uint32_t *words) {
    uint64_t w0[PHILOX_LANES], w1[PHILOX_LANES], w2[PHILOX_LANES], w3[PHILOX_LANES];
    for (int l = 0; l < PHILOX_LANES; l++) {
        uint64_t c = counter + (uint64_t)l;
        w0[l] = (uint32_t)c;
        w1[l] = c >> 32;
        w2[l] = a->step;
        w3[l] = a->stream;
    }
    uint32_t k0 = (uint32_t)a->seed, k1 = (uint32_t)(a->seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < PHILOX_LANES; l++) {
            uint64_t p0 = (w0[l] & 0xffffffffu) * 0xD2511F53u;
            uint64_t p1 = (w2[l] & 0xffffffffu) * 0xCD9E8D57u;
            w0[l] = (p1 >> 32) ^ w1[l] ^ k0;
            w1[l] = p1 & 0xffffffffu;
            w2[l] = (p0 >> 32) ^ w3[l] ^ k1;
            w3[l] = p0 & 0xffffffffu;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < PHILOX_LANES; l++) {
        words[4 * l] = (uint32_t)w0[l];
        words[4 * l + 1] = (uint32_t)w1[l];
        words[4 * l + 2] = (uint32_t)w2[l];
        words[4 * l + 3] = (uint32_t)w3[l];
    }
}

/* Elements [i, i + n) with the factors of n words. */
static void dropout_piece(const struct kern_dropout *a, int64_t i, int64_t n,
                          const uint32_t *words) {
    float factor[PHILOX_PIECE];
    for (int64_t j = 0; j < n; j++)
        factor[j] = words[j] >> 8 >= a->threshold ? (float)a->inv_keep : 0.0f;
    for (int64_t j = 0; j < n; j += VL) {
        int64_t m = lanes_left(j, n);
        vf x = vf_load_any(a->x_type, a->x, i + j, m), f = real_load_n(factor + j, m);
        /* Not x * f alone: a dropped infinity is 0. */
        vf v = vf_zero_where_zero(x * f, f);
        if (a->difference) v = v - x;
        if (a->accumulate) v = v + vf_load_any(a->y_type, a->y, i + j, m);
        vf_store_any(a->y_type, a->y, i + j, m, v);
    }
}

static void dropout(const struct kern_dropout *a, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
        uint64_t e = a->first + (uint64_t)i;
        int64_t skip = (int64_t)(e % 4),
                n = PHILOX_PIECE - skip < end - i ? PHILOX_PIECE - skip : end - i;
        uint32_t words[PHILOX_PIECE];
        philox_piece(a, e / 4, words);
        dropout_piece(a, i, n, words + skip);
        i += n;
    }
}
