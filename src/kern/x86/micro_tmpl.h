/* SPDX-License-Identifier: Apache-2.0 */
/* micro_tmpl.h - the innermost product: up to 6 rows times a packed panel of 64 columns, all sums in
 * registers (24 of them with AVX-512, 12 with AVX2).
 *
 * A step of k is one f32, or, where the processor multiplies pairs of bf16, two k's (UNIT):
 *
 *     panel  unit [steps][64][UNIT]          a lane is a column; a row of it is 4 (8) vectors
 *     rows   by strides; UNIT elements of a step lie together, so that a step is one broadcast
 *
 * Each element of the result is the same whatever the number of rows and columns: of f32 the sum of chains of
 * KERN_PRODUCT_CHAIN steps, of pairs one chain over all of them.  Chains fill the registers, so their sums lie in
 * memory.  To add to them takes 1 % of the time; where pairs are multiplied, in as few k's, it would be 3 to 7 %, for
 * operands that are not worth it. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

#ifdef KERN_PAIRS
typedef bf16 unit;
enum { UNIT = 2 };
static inline vf multiply_add(const unit *a, const unit *b, vf sum) {
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair),
                            (__m512bh)_mm512_loadu_si512((const void *)b));
}
#else
typedef float unit;
enum { UNIT = 1 };
static inline vf multiply_add(const unit *a, const unit *b, vf sum) {
    return vf_fma(vf_set(*a), vf_load(b), sum);
}
#endif

/* Elements of a chain: pairs' chain goes on where it has come to, so that its cuts do not count. */
enum { CHAIN = UNIT == 1 ? KERN_PRODUCT_CHAIN : 1 << 30, CHAIN_STEPS = CHAIN / UNIT };

/* The chain with which c (+)= begins, and its end; the first sum is added to 0, so that chains of zeros before it change
 * no sign. */
static inline vf chain_begin(const float *c, bool add) {
    return UNIT > 1 && add ? vf_load(c) : vf_set(0);
}
static inline void chain_end(float *c, vf chain, bool add) {
    if (UNIT == 1) chain = (add ? vf_load(c) : vf_set(0)) + chain;
    vf_store(c, chain);
}

/* Rows of units: elements from row to row, and from step to step. */
struct unit_rows {
    const unit *p;
    int64_t row, step;
};

/* A stretch of k: rows and the number of steps; the panels of consecutive stretches lie one behind the other.  Chains
 * of f32 start with it. */
struct unit_stretch {
    struct unit_rows rows;
    int64_t steps;
};

/* The end of all chains, from which the next ones go on. */
static inline __attribute__((always_inline)) void
chains_end(int m, int nv, vf chain[MICRO_ROWS][MICRO_VECTORS], float *c, bool add) {
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) {
            chain_end(c + i * TILE + v * VL, chain[i][v], add);
            chain[i][v] = chain_begin(c + i * TILE + v * VL, true);
        }
}

/* C [m <= MICRO_ROWS][nv vectors] (+)= rows [first, first + m) of n stretches times B; C's rows are TILE apart.  m and
 * nv are constants where this is inlined, so that the chains live in registers. */
static inline __attribute__((always_inline)) void micro_units(int m, int nv, int64_t first,
                                                              const struct unit_stretch *a, int n,
                                                              const unit *b, float *c, bool add) {
    vf chain[MICRO_ROWS][MICRO_VECTORS];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) chain[i][v] = chain_begin(c + i * TILE + v * VL, add);
    for (int k = 0; k < n; k++) {
        /* Two bases and the stride: three registers address six rows. */
        int64_t row = a[k].rows.row, step = a[k].rows.step;
        const unit *low = a[k].rows.p + first * row, *high = low + 3 * row;
        for (int64_t left = a[k].steps, end; left > 0; left = end) {
            for (end = left > CHAIN_STEPS ? left - CHAIN_STEPS : 0; left > end; left--) {
                for (int i = 0; i < m; i++)
                    for (int v = 0; v < nv; v++)
                        chain[i][v] = multiply_add(i < 3 ? low + i * row : high + (i - 3) * row,
                                                   b + v * VL * UNIT, chain[i][v]);
                low += step;
                high += step;
                b += TILE * UNIT;
            }
            if (UNIT == 1) {
                chains_end(m, nv, chain, c, add);
                add = true;
            }
        }
    }
    if (UNIT > 1) chains_end(m, nv, chain, c, add);
}

/* Rows [first, first + m) for nv vectors of the columns. */
static inline __attribute__((always_inline)) void panel_units(int nv, int64_t first, int64_t m,
                                                              const struct unit_stretch *a, int n,
                                                              const unit *b, float *c, bool add) {
    for (; m >= MICRO_ROWS; m -= MICRO_ROWS, first += MICRO_ROWS, c += MICRO_ROWS * TILE)
        micro_units(MICRO_ROWS, nv, first, a, n, b, c, add);
    switch (m) {
    case 5: micro_units(5, nv, first, a, n, b, c, add); break;
    case 4: micro_units(4, nv, first, a, n, b, c, add); break;
    case 3: micro_units(3, nv, first, a, n, b, c, add); break;
    case 2: micro_units(2, nv, first, a, n, b, c, add); break;
    case 1: micro_units(1, nv, first, a, n, b, c, add); break;
    default: break;
    }
}

/* Functions of their own: in one, the loops would compete for registers. */
static __attribute__((noinline)) void panel_1(int64_t first, int64_t m,
                                              const struct unit_stretch *a, int n, const unit *b,
                                              float *c, bool add) {
    panel_units(1, first, m, a, n, b, c, add);
}
static __attribute__((noinline)) void panel_2(int64_t first, int64_t m,
                                              const struct unit_stretch *a, int n, const unit *b,
                                              float *c, bool add) {
    panel_units(2, first, m, a, n, b, c, add);
}
static __attribute__((noinline)) void panel_most(int64_t first, int64_t m,
                                                 const struct unit_stretch *a, int n, const unit *b,
                                                 float *c, bool add) {
    panel_units(MICRO_VECTORS, first, m, a, n, b, c, add);
}

/* C [m][vectors * VL <= TILE] (+)= rows [first, first + m) of n stretches, none empty, times B, C's rows TILE apart. */
static void stretches_product(int64_t vectors, int64_t first, int64_t m,
                              const struct unit_stretch *a, int n, const unit *b, float *c,
                              bool add) {
    while (vectors > 0) {
        int64_t nv = vectors >= MICRO_VECTORS ? MICRO_VECTORS : vectors >= 2 ? 2 : 1;
        if (nv == 1)
            panel_1(first, m, a, n, b, c, add);
        else if (nv == MICRO_VECTORS)
            panel_most(first, m, a, n, b, c, add);
        else
            panel_2(first, m, a, n, b, c, add);
        vectors -= nv;
        b += nv * VL * UNIT;
        c += nv * VL;
    }
}

/* One stretch. */
static void product_units(int64_t vectors, int64_t m, int64_t steps, struct unit_rows a,
                          const unit *b, float *c, bool add) {
    struct unit_stretch one = {a, steps};
    stretches_product(vectors, 0, m, &one, 1, b, c, add);
}

/* ---- packing ---- */

/* VL steps of a row of activations as the 32-bit lanes of a vector; n elements of it, zeros beyond. */
static inline vf steps_load(const act *p, int64_t n) {
#ifdef KERN_PAIRS
    if (n >= 2 * VL) return vf_load((const float *)(const void *)p);
    act lanes[2 * VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vf_load((const float *)(const void *)lanes);
#else
    return act_load_n(p, n < VL ? n : VL);
#endif
}

/* VL rows by VL steps, all of them there: everything stays in registers. */
static inline __attribute__((always_inline)) void turn_whole(const act *x, int64_t ld, float *out) {
    vf v[VL];
#pragma GCC unroll 16
    for (int r = 0; r < VL; r++) v[r] = steps_load(x + r * ld, VL * UNIT);
    vf_transpose(v);
#pragma GCC unroll 16
    for (int s = 0; s < VL; s++) vf_store(out + s * TILE, v[s]);
}

/* The first `rows` rows and n elements of each. */
static void turn_part(const act *x, int64_t ld, int64_t rows, int64_t n, float *out) {
    vf v[VL];
    for (int64_t r = 0; r < rows; r++) v[r] = steps_load(x + r * ld, n);
    for (int64_t r = rows; r < VL; r++) v[r] = vf_set(0);
    vf_transpose(v);
    int64_t steps = least(VL, (n + UNIT - 1) / UNIT);
    for (int64_t s = 0; s < steps; s++) vf_store(out + s * TILE, v[s]);
}

/* Panel of matrix rows as lanes: out[step][r][UNIT] from rows x[r][k], r < rows (<= TILE), k < n_k; lanes and
 * steps past the end are 0. */
static void pack_turned(const act *x, int64_t ld, int64_t rows, int64_t n_k, unit *out) {
    for (int64_t r = 0; r < rows; r += VL)
        for (int64_t k = 0; k < n_k; k += VL * UNIT) {
            float *to = (float *)(void *)(out + (k / UNIT * TILE + r) * UNIT);
            if (rows - r >= VL && n_k - k >= VL * UNIT)
                turn_whole(x + r * ld + k, ld, to);
            else
                turn_part(x + r * ld + k, ld, least(rows - r, VL), n_k - k, to);
        }
}

/* Panel of matrix columns as lanes: out[step][c][UNIT] from rows x[k][c], c < cols (<= width lanes), k < n_k;
 * width: lanes from step to step. */
static void pack_straight(const act *x, int64_t ld, int64_t n_k, int64_t cols, unit *out,
                          int64_t width) {
    enum { AHEAD = 16, LINE = 64 / sizeof(act) }; /* far rows: each is another page */
    for (int64_t k = 0; k < n_k; k += UNIT) {
        for (int64_t c = 0; k + AHEAD + UNIT <= n_k && c < cols; c += LINE)
            for (int64_t u = 0; u < UNIT; u++) __builtin_prefetch(x + (k + AHEAD + u) * ld + c);
        for (int64_t c = 0; c < cols; c += VL) {
            int64_t n = lanes_left(c, cols);
            float *to = (float *)(void *)(out + (k / UNIT * width + c) * UNIT);
#ifdef KERN_PAIRS
            /* The even row's element is the low half of a lane, the odd row's the high half. */
            __m512i low = _mm512_castps_si512(act_load_n(x + k * ld + c, n)), high = low;
            high = k + 1 < n_k ? _mm512_castps_si512(act_load_n(x + (k + 1) * ld + c, n))
                               : _mm512_setzero_si512();
            vf v = _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(low, 16), high));
#else
            vf v = act_load_n(x + k * ld + c, n);
#endif
            if (n < VL && width < TILE)
                real_store_n(to, v, n);
            else
                vf_store(to, v);
        }
    }
}
