/* SPDX-License-Identifier: Apache-2.0 */
/* product_tmpl.h - C = alpha op(A) op(B) + beta C; see struct kern_product.
 *
 *   c_ij = alpha sum_k a_ik b_kj + beta c_ij
 *
 * A row of C is summed for all columns of a tile at once; each sum runs over k in order. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

/* sum[j] = sum over k of a_ik b_kj, for columns [j0, j0 + n). */
static void product_row(const struct kern_product *a, int64_t i, int64_t j0, int64_t n, real *sum) {
    for (int64_t j = 0; j < n; j++) sum[j] = 0;
    for (int64_t k = 0; k < a->k; k++) {
        real x = load_any(a->in_type, a->a, a->trans_a ? k * a->lda + i : i * a->lda + k);
        for (int64_t j = 0; j < n; j++) {
            int64_t at = a->trans_b ? (j0 + j) * a->ldb + k : k * a->ldb + j0 + j;
            sum[j] += x * load_any(a->in_type, a->b, at);
        }
    }
}

static void product(const struct kern_product *a, int64_t begin, int64_t end) {
    int64_t row_tiles = kern_product_row_tiles(a->m);
    for (int64_t t = begin; t < end; t++) {
        int64_t i0 = t % row_tiles * KERN_PRODUCT_ROWS, j0 = t / row_tiles * KERN_PRODUCT_COLS;
        int64_t rows = a->m - i0 < KERN_PRODUCT_ROWS ? a->m - i0 : KERN_PRODUCT_ROWS;
        int64_t cols = a->n - j0 < KERN_PRODUCT_COLS ? a->n - j0 : KERN_PRODUCT_COLS;
        for (int64_t i = i0; i < i0 + rows; i++) {
            real sum[KERN_PRODUCT_COLS];
            product_row(a, i, j0, cols, sum);
            for (int64_t j = 0; j < cols; j++) {
                int64_t at = i * a->ldc + j0 + j;
                real v = (real)a->alpha * sum[j];
                if (a->beta != 0.0) v += (real)a->beta * load_any(a->c_type, a->c, at);
                store_any(a->c_type, a->c, at, (double)v);
            }
        }
    }
}
