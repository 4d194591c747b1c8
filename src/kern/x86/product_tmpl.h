/* SPDX-License-Identifier: Apache-2.0 */
/* product_tmpl.h - C = alpha op(A) op(B) + beta C in tiles of 192 x 64, operands widened to f32
 * while they are packed; equations in kern/ref/product_tmpl.h.
 *
 *     a [192][256]  a block of op(A)       b [256][64]  a block of op(B)      c [192][64]  sums
 *
 * The sums go on from block to block of k: an element is one chain over all of k. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

enum { PRODUCT_K = 256 };
_Static_assert((int)KERN_PRODUCT_COLS == (int)TILE, "tile_product's width");

struct product_tile {
    _Alignas(64) float a[KERN_PRODUCT_ROWS * PRODUCT_K], b[PRODUCT_K * TILE];
    _Alignas(64) float c[KERN_PRODUCT_ROWS * TILE];
};

/* out[r * out_row + c * out_col] = x[r][c], rows of x being contiguous. */
static void pack(enum dtype type, const void *x, int64_t at, int64_t ld, int64_t rows, int64_t cols,
                 float *out, struct strided to) {
    for (int64_t c = 0; c < cols; c += VL) {
        int64_t n = lanes_left(c, cols);
        for (int64_t r = 0; r < rows; r++) {
            vf v = vf_load_any(type, x, at + r * ld + c, n);
            float *p = out + r * to.row + c * to.col;
            if (to.col == 1) {
                real_store_n(p, v, n);
                continue;
            }
            float lanes[VL];
            vf_store(lanes, v);
            for (int64_t i = 0; i < n; i++) p[i * to.col] = lanes[i];
        }
    }
}

/* Rows of A from i0 and columns of B from j0, for k in [k0, k0 + n_k). */
static void pack_blocks(const struct kern_product *a, struct product_tile *t, int64_t i0,
                        int64_t rows, int64_t j0, int64_t cols, int64_t k0, int64_t n_k) {
    struct strided straight_a = {NULL, PRODUCT_K, 1}, turned_a = {NULL, 1, PRODUCT_K};
    struct strided straight_b = {NULL, TILE, 1}, turned_b = {NULL, 1, TILE};
    if (a->trans_a)
        pack(a->in_type, a->a, k0 * a->lda + i0, a->lda, n_k, rows, t->a, turned_a);
    else
        pack(a->in_type, a->a, i0 * a->lda + k0, a->lda, rows, n_k, t->a, straight_a);
    if (a->trans_b)
        pack(a->in_type, a->b, j0 * a->ldb + k0, a->ldb, cols, n_k, t->b, turned_b);
    else
        pack(a->in_type, a->b, k0 * a->ldb + j0, a->ldb, n_k, cols, t->b, straight_b);
}

static void product_store(const struct kern_product *a, const float *sums, int64_t i0, int64_t rows,
                          int64_t j0, int64_t cols) {
    vf alpha = vf_set((float)a->alpha), beta = vf_set((float)a->beta);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += VL) {
            int64_t n = lanes_left(j, cols), at = (i0 + i) * a->ldc + j0 + j;
            vf v = alpha * vf_load(sums + i * TILE + j);
            if (a->beta != 0.0) v = vf_fma(beta, vf_load_any(a->c_type, a->c, at, n), v);
            vf_store_any(a->c_type, a->c, at, n, v);
        }
}

static void product(const struct kern_product *a, int64_t begin, int64_t end) {
    struct product_tile t;
    int64_t row_tiles = kern_product_row_tiles(a->m);
    memset(t.b, 0, sizeof t.b); /* lanes past the last column */
    for (int64_t i = begin; i < end; i++) {
        int64_t i0 = i % row_tiles * KERN_PRODUCT_ROWS, j0 = i / row_tiles * KERN_PRODUCT_COLS;
        int64_t rows = least(KERN_PRODUCT_ROWS, a->m - i0), cols = least(TILE, a->n - j0);
        int64_t vectors = (cols + VL - 1) / VL;
        memset(t.c, 0, sizeof t.c);
        for (int64_t k = 0; k < a->k; k += PRODUCT_K) {
            int64_t n_k = least(PRODUCT_K, a->k - k);
            pack_blocks(a, &t, i0, rows, j0, cols, k, n_k);
            tile_product(vectors, rows, n_k, (struct strided){t.a, PRODUCT_K, 1}, t.b, t.c, true);
        }
        product_store(a, t.c, i0, rows, j0, cols);
    }
}
