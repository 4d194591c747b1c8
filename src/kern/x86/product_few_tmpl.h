/* SPDX-License-Identifier: Apache-2.0 */
/* product_few_tmpl.h - products of a few rows with stored rows of weights, y = W x: what decoding a token
 * consists of, bound by the reading of W.
 *
 * A packed panel would be written and read for hardly any use.  Instead VL rows of W by VL steps of k are turned
 * in registers and multiplied at once, so that a lane is a column of C as it is in a panel; each element is the
 * sum of the same chains over the steps, and has the same bits.
 *
 *     W   row r      | s s s s ... |      turned: step s of rows r .. r + VL - 1 are the lanes of v[s]
 *         row r + 1  | s s s s ... |      chain[i] = v[s] x_i[s] + chain[i], s ascending
 *
 * One row of C would wait for its chain, so it takes two blocks of W's rows at a time; up to FEW_HELD rows keep
 * their chains in registers, more of them keep them in memory and pass by in fours.
 *
 * VL streams at once are too many for the processor's prefetchers.  While a block is read, the next one is
 * fetched into the second-level cache, in the order of memory: 19 GB/s instead of 9 of one core (Zen 4). */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum {
    FEW_ROWS = VL == 16 ? 24 : 8, /* of C; from there on a panel is as fast */
    FEW_HELD = 4,
    FEW_STEP = VL * UNIT,
    FEW_CUT = UNIT == 1 ? CHAIN : FEW_STEP /* where k may be cut */
};
_Static_assert(CHAIN % FEW_STEP == 0 && FEW_CUT % GROUP == 0 && FEW_ROWS % 4 == 0, "parts of k");

static inline vf multiply_lanes(const unit *a, vf v, vf sum) {
#ifdef KERN_PAIRS
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(v),
                            (__m512bh)_mm512_set1_epi32(pair));
#else
    return vf_fma(vf_set(*a), v, sum);
#endif
}

/* The columns of op(B) as they are stored: row r at p + r ld. */
struct few_rows {
    const act *p;
    int64_t ld;
};

/* FEW_STEP elements of each of VL rows from p on, turned; fetches as much from `next` on. */
static inline __attribute__((always_inline)) void few_load(const act *p, int64_t ld, uintptr_t next,
                                                           vf v[VL]) {
    enum { BYTES = FEW_STEP * sizeof(act) };
    /* Loads of this block before the last one is used up would take more registers than there are. */
    __asm__ volatile("" ::: "memory");
#pragma GCC unroll 16
    for (int r = 0; r < VL; r++, p += ld) {
        if (r * BYTES % 64 == 0)
            __builtin_prefetch((const void *)(next + (uintptr_t)r * BYTES), 0, 2);
#ifdef KERN_PAIRS
        v[r] = vf_load((const float *)(const void *)p);
#else
        v[r] = act_load(p);
#endif
    }
    vf_transpose(v);
}

static inline uintptr_t few_next(struct few_rows w, int64_t blocks) {
    return (uintptr_t)w.p + (uintptr_t)(blocks * VL * w.ld) * sizeof(act);
}

/* c [m][blocks * VL] (+)= A w^T over n_k elements, a multiple of FEW_STEP; m and blocks are constants. */
static inline __attribute__((always_inline)) void few_held(int m, int blocks, int64_t n_k,
                                                           struct unit_rows a, struct few_rows w,
                                                           float *c, bool add) {
    vf chain[FEW_HELD][2];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 2
        for (int g = 0; g < blocks; g++) chain[i][g] = chain_begin(c + i * TILE + g * VL, add);
    uintptr_t next = few_next(w, blocks);
    for (int64_t k = 0; k < n_k; a.p += FEW_STEP) {
#pragma GCC unroll 2
        for (int g = 0; g < blocks; g++, next += VL * FEW_STEP * sizeof(act)) {
            vf v[VL];
            few_load(w.p + g * VL * w.ld + k, w.ld, next, v);
#pragma GCC unroll 16
            for (int s = 0; s < VL; s++)
#pragma GCC unroll 8
                for (int i = 0; i < m; i++)
                    chain[i][g] = multiply_lanes(a.p + i * a.row + s * UNIT, v[s], chain[i][g]);
        }
        k += FEW_STEP;
        if (k % CHAIN != 0 && k < n_k) continue;
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
#pragma GCC unroll 2
            for (int g = 0; g < blocks; g++) {
                chain_end(c + i * TILE + g * VL, chain[i][g], add || k > CHAIN);
                chain[i][g] = chain_begin(c + i * TILE + g * VL, true);
            }
    }
}

/* Functions of their own, for the registers. */
static __attribute__((noinline)) void few_1_wide(int64_t n_k, struct unit_rows a, struct few_rows w,
                                                 float *c, bool add) {
    few_held(1, 2, n_k, a, w, c, add);
}
static __attribute__((noinline)) void few_1(int64_t n_k, struct unit_rows a, struct few_rows w,
                                            float *c, bool add) {
    few_held(1, 1, n_k, a, w, c, add);
}
static __attribute__((noinline)) void few_2(int64_t n_k, struct unit_rows a, struct few_rows w,
                                            float *c, bool add) {
    few_held(2, 1, n_k, a, w, c, add);
}
static __attribute__((noinline)) void few_3(int64_t n_k, struct unit_rows a, struct few_rows w,
                                            float *c, bool add) {
    few_held(3, 1, n_k, a, w, c, add);
}
static __attribute__((noinline)) void few_4(int64_t n_k, struct unit_rows a, struct few_rows w,
                                            float *c, bool add) {
    few_held(4, 1, n_k, a, w, c, add);
}
/* Four rows of C for one turned block; rows past the last one repeat it.  Their chains lie in `chains` between the first
 * block and the last one, which has c. */
static inline __attribute__((always_inline)) void
few_four(const unit *const row[4], const vf v[VL], bool first, float *chains, float *c, bool add) {
    vf chain[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) chain[i] = first ? vf_set(0) : vf_load(chains + i * VL);
#pragma GCC unroll 16
    for (int s = 0; s < VL; s++)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) chain[i] = multiply_lanes(row[i] + s * UNIT, v[s], chain[i]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        if (c)
            chain_end(c + i * TILE, chain[i], add);
        else
            vf_store(chains + i * VL, chain[i]);
    }
}

static __attribute__((noinline)) void few_many(int64_t m, int64_t n_k, struct unit_rows a,
                                               struct few_rows w, float *c, bool add) {
    _Alignas(64) float chains[FEW_ROWS * VL];
    for (int64_t i = 0; UNIT > 1 && i < m; i++)
        vf_store(chains + i * VL, chain_begin(c + i * TILE, add));
    uintptr_t next = few_next(w, 1);
    for (int64_t k = 0; k < n_k; k += FEW_STEP, next += VL * FEW_STEP * sizeof(act)) {
        int64_t past = k + FEW_STEP;
        bool first = UNIT == 1 && k % CHAIN == 0, last = past % CHAIN == 0 || past == n_k;
        vf v[VL];
        few_load(w.p + k, w.ld, next, v);
        for (int64_t i = 0; i < m; i += 4) {
            const unit *row[4];
            for (int j = 0; j < 4; j++) row[j] = a.p + least(i + j, m - 1) * a.row + k;
            few_four(row, v, first, chains + i * VL, last ? c + i * TILE : NULL, add || k >= CHAIN);
        }
    }
}

static void few_block(int64_t m, int64_t n_k, struct unit_rows a, struct few_rows w, float *c,
                      bool add) {
    switch (m) {
    case 1: few_1(n_k, a, w, c, add); break;
    case 2: few_2(n_k, a, w, c, add); break;
    case 3: few_3(n_k, a, w, c, add); break;
    case 4: few_4(n_k, a, w, c, add); break;
    default: few_many(m, n_k, a, w, c, add); break;
    }
}

/* The columns [j, j + n) of an item against n_k elements of w. */
static void few_blocks(int64_t m, int64_t n, int64_t n_k, struct unit_rows a, struct few_rows w,
                       float *c, bool add) {
    int64_t j = 0;
    for (; m == 1 && j + 2 * VL <= n; j += 2 * VL, w.p += 2 * VL * w.ld)
        few_1_wide(n_k, a, w, c + j, add);
    for (; j < n; j += VL, w.p += VL * w.ld) few_block(m, n_k, a, w, c + j, add);
}

/* The same from blocks, by way of the first-level cache. */
static void few_from_blocks(const struct kern_term *t, const struct product_item *x, int64_t k0,
                            int64_t n_k, struct unit_rows a, act *buffer, float *c, bool add) {
    int64_t most = x->rows == 1 ? 2 * VL : VL;
    for (int64_t j = 0, n; j < x->cols; j += n) {
        n = least(most, x->cols - j);
        struct blocks b = blocks_from(t, x->j0 + j);
        uintptr_t next = (uintptr_t)b.p + (uintptr_t)(n * b.bytes);
        for (int64_t k = 0; k < n_k; k += BLOCKS_PIECE) {
            int64_t piece = least(BLOCKS_PIECE, n_k - k);
            struct unit_rows part = {a.p + k, a.row, a.step};
            struct few_rows w = {buffer, BLOCKS_PIECE};
            blocks_rows(&b, k0 + k, n, piece, buffer, BLOCKS_PIECE, next);
            few_blocks(x->rows, n, piece, part, w, c + j, add || k > 0);
            next += (uintptr_t)(n * b_bytes(t, piece));
        }
    }
}

/* One term where it suits: returns how many elements of k are in the sums, all or up to a FEW_CUT; the rest is the
 * panel's. */
static int64_t add_few(const struct kern_term *t, const struct product_item *x,
                       struct product_tile *tile, float *sums, bool add) {
    if (!t->trans_b || t->trans_a || x->rows > FEW_ROWS || x->cols % VL != 0) return 0;
    int64_t whole = t->k % FEW_STEP == 0 ? t->k : t->k / FEW_CUT * FEW_CUT, room = whole, k = 0;
    if (!rows_in_place(t))
        room = KERN_PRODUCT_ROWS * PACKED_STEPS * UNIT / x->rows / FEW_CUT * FEW_CUT;
    for (; k < whole; k += least(room, whole - k)) {
        int64_t n_k = least(room, whole - k);
        struct unit_rows a = rows_of(t, x, k, n_k, tile->a);
        struct few_rows w = {(const act *)t->b + x->j0 * t->ldb + k, t->ldb};
        if (kern_takes_blocks(t->b_type))
            few_from_blocks(t, x, k, n_k, a, tile->w, sums, add || k > 0);
        else
            few_blocks(x->rows, x->cols, n_k, a, w, sums, add || k > 0);
    }
    return k;
}
