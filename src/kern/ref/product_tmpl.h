/* SPDX-License-Identifier: Apache-2.0 */
/* product_tmpl.h - sums of products; see struct kern_product.
 *
 *   c_ij = f_j alpha sum_t m_tij sum_k a_tik b_tkj + beta d_ij + e_j
 *
 * A row of C is summed for all columns of an item at once; each sum is one of chains, each over its k's in order. */
#ifndef KERN_REF_FILL
#error "included by table_tmpl.h"
#endif

#include "kern/dequant.h"

/* Elements [col, col + n) of B's stored row, in whole groups of 32, as act. */
enum { B_PIECE = 256 };
_Static_assert((int)B_PIECE >= (int)KERN_PRODUCT_CHAIN && (int)B_PIECE >= (int)KERN_PRODUCT_COLS,
               "a piece holds both");
static void b_row(const struct kern_term *t, int64_t row, int64_t col, int64_t n, act *out) {
    float wide[2 * B_PIECE];
    int64_t elems = (int64_t)dtype_block_elems(t->b_type), before = col % elems;
    const unsigned char *p = t->b;
    p += (row * t->ldb + col - before) / elems * (int64_t)dtype_block_bytes(t->b_type);
    dequant_to_f32(t->b_type, p, (before + n + elems - 1) / elems * elems, wide);
    for (int64_t i = 0; i < n; i++) out[i] = act_store((real)wide[before + i]);
}

/* A chain: the k's [from, past) of a term. */
struct chain {
    int64_t from, past;
};

static real a_element(const struct kern_term *t, int64_t i, int64_t k) {
    return load_any(ACT_TYPE, t->a, t->trans_a ? k * t->lda + i : i * t->lda + k);
}

/* chain_row with B in blocks. */
static void blocks_row(const struct kern_term *t, struct chain c, int64_t i, int64_t j0, int64_t n,
                       real *sum) {
    act b[B_PIECE];
    for (int64_t k = c.from; !t->trans_b && k < c.past; k++) {
        real x = a_element(t, i, k);
        b_row(t, k, j0, n, b);
        for (int64_t j = 0; j < n; j++) sum[j] += x * act_load(b[j]);
    }
    for (int64_t j = 0; t->trans_b && j < n; j++) {
        b_row(t, j0 + j, c.from, c.past - c.from, b);
        for (int64_t k = c.from; k < c.past; k++)
            sum[j] += a_element(t, i, k) * act_load(b[k - c.from]);
    }
}

/* sum[j] += a_ik b_kj of a chain, for columns [j0, j0 + n). */
static void chain_row(const struct kern_term *t, struct chain c, int64_t i, int64_t j0, int64_t n,
                      real *sum) {
    if (kern_takes_blocks(t->b_type)) {
        blocks_row(t, c, i, j0, n, sum);
        return;
    }
    for (int64_t k = c.from; k < c.past; k++) {
        real x = a_element(t, i, k);
        for (int64_t j = 0; j < n; j++) {
            int64_t at = t->trans_b ? (j0 + j) * t->ldb + k : k * t->ldb + j0 + j;
            sum[j] += x * load_any(ACT_TYPE, t->b, at);
        }
    }
}

/* sum[j] += the term's chains. */
static void term_row(const struct kern_term *t, int64_t i, int64_t j0, int64_t n, real *sum) {
    for (struct chain c = {0}; c.from < t->k; c.from = c.past) {
        real own[KERN_PRODUCT_COLS] = {0};
        c.past = t->k - c.from > KERN_PRODUCT_CHAIN ? c.from + KERN_PRODUCT_CHAIN : t->k;
        chain_row(t, c, i, j0, n, own);
        for (int64_t j = 0; j < n; j++) sum[j] += own[j];
    }
}

static void masked_row(const struct kern_term *t, int64_t i, int64_t j0, int64_t n, real *sum) {
    real own[KERN_PRODUCT_COLS] = {0};
    term_row(t, i, j0, n, own);
    for (int64_t j = 0; j < n; j++) {
        bool on = t->mask[i * t->ld_mask + (j0 + j) / 8] >> ((j0 + j) % 8) & 1;
        if (on)
            sum[j] += own[j] * (real)t->kept;
        else if (t->dropped != 0)
            sum[j] += own[j] * (real)t->dropped;
    }
}

static void product_row(const struct kern_product *a, int64_t i, int64_t j0, int64_t n) {
    real sum[KERN_PRODUCT_COLS] = {0};
    for (int64_t t = 0; t < a->n_terms; t++) {
        if (a->terms[t].mask)
            masked_row(&a->terms[t], i, j0, n, sum);
        else
            term_row(&a->terms[t], i, j0, n, sum);
    }
    for (int64_t j = 0; j < n; j++) {
        real v = (real)a->alpha * sum[j];
        if (a->factor) v *= load_any(REAL_TYPE, a->factor, j0 + j);
        if (a->addend)
            v += (real)a->beta * load_any(a->addend_type, a->addend, i * a->ld_addend + j0 + j);
        if (a->bias) v += load_any(a->bias_type, a->bias, j0 + j);
        store_any(a->c_type, a->c, i * a->ldc + j0 + j, (double)v);
    }
}

static void product(const struct kern_product *a, int64_t begin, int64_t end) {
    int64_t col_items = kern_product_col_items(a);
    for (int64_t t = begin; t < end; t++) {
        int64_t i0 = t / col_items * a->item_rows, j0 = t % col_items * a->item_cols;
        int64_t rows = a->m - i0 < a->item_rows ? a->m - i0 : a->item_rows;
        int64_t cols = a->n - j0 < a->item_cols ? a->n - j0 : a->item_cols;
        for (int64_t i = i0; i < i0 + rows; i++) product_row(a, i, j0, cols);
    }
}
