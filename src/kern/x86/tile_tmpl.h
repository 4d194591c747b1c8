/* SPDX-License-Identifier: Apache-2.0 */
/* tile_tmpl.h - the product of small f32 matrices in cache, 64 columns wide: the inner loop of
 * attention and of own products.  Rows of C go in sixes, so that with AVX-512 24 sums live in
 * registers (12 with AVX2). */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum { TILE = 64, TILE_VECTORS = TILE / VL, MICRO_VECTORS = VL == 16 ? 4 : 2, MICRO_ROWS = 6 };

/* A matrix of f32 by element strides: row to row, column to column. */
struct strided {
    const float *p;
    int64_t row, col;
};

/* C [m <= MICRO_ROWS][nv vectors] (+)= A [m][k] B [k][nv vectors]; C and B have TILE columns.  m
 * and nv are constants where this is inlined, so that the sums live in registers. */
static inline __attribute__((always_inline)) void
micro_product(int m, int nv, int64_t k, struct strided a, const float *b, float *c, bool add) {
    vf sum[MICRO_ROWS][MICRO_VECTORS];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) sum[i][v] = add ? vf_load(c + i * TILE + v * VL) : vf_set(0);
    for (int64_t j = 0; j < k; j++) {
        vf row[MICRO_VECTORS];
        for (int v = 0; v < nv; v++) row[v] = vf_load(b + j * TILE + v * VL);
        for (int i = 0; i < m; i++) {
            vf x = vf_set(a.p[i * a.row + j * a.col]);
            for (int v = 0; v < nv; v++) sum[i][v] = vf_fma(x, row[v], sum[i][v]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) vf_store(c + i * TILE + v * VL, sum[i][v]);
}

/* All rows of C for nv vectors of its columns. */
static inline __attribute__((always_inline)) void
panel_product(int nv, int64_t m, int64_t k, struct strided a, const float *b, float *c, bool add) {
    int64_t i = 0;
    for (; i + MICRO_ROWS <= m; i += MICRO_ROWS) {
        struct strided ai = {a.p + i * a.row, a.row, a.col};
        micro_product(MICRO_ROWS, nv, k, ai, b, c + i * TILE, add);
    }
    for (; i < m; i++) {
        struct strided ai = {a.p + i * a.row, a.row, a.col};
        micro_product(1, nv, k, ai, b, c + i * TILE, add);
    }
}

/* C [m][n] (+)= A [m][k] B [k][n], n = vectors * VL <= TILE.  Each element is one chain of fused
 * multiply-adds over k, whatever m and n. */
static void tile_product(int64_t vectors, int64_t m, int64_t k, struct strided a, const float *b,
                         float *c, bool add) {
    int64_t v = 0;
    for (; v + MICRO_VECTORS <= vectors; v += MICRO_VECTORS)
        panel_product(MICRO_VECTORS, m, k, a, b + v * VL, c + v * VL, add);
    for (; v < vectors; v++) panel_product(1, m, k, a, b + v * VL, c + v * VL, add);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
