/* SPDX-License-Identifier: Apache-2.0 */
/* product_tmpl.h - sums of products in items of up to 384 x 64; equations in kern/ref/product_tmpl.h.
 *
 * For each item and block of k, columns of B become a packed panel that stays in the second-level cache while
 * all rows of the item pass over it:
 *
 *     b [steps][64][UNIT]     panel of op(B), packed from the matrix as it is stored: 64 k / 8 cycles beside the
 *                             384 k 64 / 32 of the products, so weights need no packed copy, nor two
 *     a [rows][k]             op(A): read where it lies, or packed when it is transposed or must be widened
 *     c [rows][64]            sums, f32; t the same for a masked term
 *
 * A matrix in GGUF's blocks is made act a few rows at a time on the way. */
#ifndef KERN_FILL
#error "included by table_tmpl.h"
#endif

#include "kern/x86/dequant_tmpl.h"

enum {
    PANEL_STEPS = 896, /* of k, with rows read where they lie: 224 KiB of panels */
    PACKED_STEPS = 128 /* with packed rows */
};
_Static_assert((int)KERN_PRODUCT_COLS == (int)TILE, "product_units's width");
_Static_assert(UNIT > 1 || (PANEL_STEPS % CHAIN_STEPS == 0 && PACKED_STEPS % CHAIN_STEPS == 0 &&
                            BLOCKS_PIECE % CHAIN == 0),
               "blocks of k consist of whole chains");

struct product_tile {
    _Alignas(64) unit b[PANEL_STEPS * TILE * UNIT], a[KERN_PRODUCT_ROWS * PACKED_STEPS * UNIT];
    _Alignas(64) float c[KERN_PRODUCT_ROWS * TILE], t[KERN_PRODUCT_ROWS * TILE];
    _Alignas(64) act w[2 * VL * BLOCKS_PIECE]; /* some of B, where it is in blocks */
};

/* What part of C an item is. */
struct product_item {
    int64_t i0, rows, j0, cols, vectors;
};

/* Rows are read in place where a step of them lies together as the multiplication wants it. */
static bool rows_in_place(const struct kern_term *t) {
    return !t->trans_a && sizeof(unit) == sizeof(act) && t->k % UNIT == 0;
}

static struct unit_rows rows_of(const struct kern_term *t, const struct product_item *x, int64_t k0,
                                int64_t n_k, unit *packed) {
    const act *a = t->a;
    if (rows_in_place(t))
        return (struct unit_rows){(const unit *)(const void *)(a + x->i0 * t->lda + k0), t->lda,
                                  UNIT};
    if (t->trans_a) {
        int64_t width = (x->rows + VL - 1) / VL * VL;
        pack_straight(a + k0 * t->lda + x->i0, t->lda, n_k, x->rows, packed, width);
        return (struct unit_rows){packed, UNIT, width * UNIT};
    }
    int64_t steps = (n_k + UNIT - 1) / UNIT, row = steps * UNIT;
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t k = 0; k < n_k; k += VL * UNIT) {
            vf v = steps_load(a + (x->i0 + r) * t->lda + k0 + k, n_k - k);
            real_store_n((float *)(void *)(packed + r * row + k), v, least(VL, steps - k / UNIT));
        }
    return (struct unit_rows){packed, row, UNIT};
}

/* The block of k from k on. */
static int64_t block_of(const struct kern_term *t, int64_t k) {
    return least((rows_in_place(t) ? PANEL_STEPS : PACKED_STEPS) * UNIT, t->k - k);
}

/* Bytes of n elements of B, whole blocks or groups where it is in blocks. */
static int64_t b_bytes(const struct kern_term *t, int64_t n) {
    if (!kern_takes_blocks(t->b_type)) return n * (int64_t)sizeof(act);
    return n * (int64_t)dtype_block_bytes(t->b_type) / (int64_t)dtype_block_elems(t->b_type);
}
static struct blocks blocks_from(const struct kern_term *t, int64_t row) {
    int64_t bytes = b_bytes(t, t->ldb);
    return (struct blocks){(const unsigned char *)t->b + row * bytes, bytes, t->b_type};
}

/* pack_panel with B in blocks; w: room for 2 VL x BLOCKS_PIECE. */
static void pack_blocks(const struct kern_term *t, const struct product_item *x, int64_t k0,
                        int64_t n_k, act *w, unit *panel) {
    if (!t->trans_b) {
        for (int64_t k = 0; k < n_k; k += VL) {
            struct blocks b = blocks_from(t, k0 + k);
            int64_t rows = least(VL, n_k - k);
            blocks_rows(&b, x->j0, rows, x->cols, w, TILE, 0);
            pack_straight(w, TILE, rows, x->cols, panel + k * TILE, TILE);
        }
        return;
    }
    for (int64_t r = 0; r < x->cols; r += VL) {
        struct blocks b = blocks_from(t, x->j0 + r);
        int64_t rows = least(VL, x->cols - r);
        for (int64_t k = 0; k < n_k; k += BLOCKS_PIECE) {
            int64_t n = least(BLOCKS_PIECE, n_k - k);
            blocks_rows(&b, k0 + k, rows, n, w, BLOCKS_PIECE, 0);
            pack_turned(w, BLOCKS_PIECE, rows, n, panel + k * TILE + r * UNIT);
        }
    }
}

static void pack_panel(const struct kern_term *t, const struct product_item *x, int64_t k0,
                       int64_t n_k, act *w, unit *panel) {
    const act *b = t->b;
    if (kern_takes_blocks(t->b_type))
        pack_blocks(t, x, k0, n_k, w, panel);
    else if (t->trans_b)
        pack_turned(b + x->j0 * t->ldb + k0, t->ldb, x->cols, n_k, panel);
    else
        pack_straight(b + k0 * t->ldb + x->j0, t->ldb, n_k, x->cols, panel, TILE);
}

/* ---- fetching ahead ----
 *
 * A panel's matrix is in the third-level cache or in memory, and packing it from there would wait for a tenth of the
 * time.  So while one panel is multiplied, the matrix of the next - of this item's next block or term, or of the
 * item that this thread takes next if all threads are equally fast - is fetched into the second level, a few lines
 * with each group of rows. */

struct panel_source {
    const char *p;
    int64_t ld, rows,
        lines;    /* bytes from row to row; cache lines a row; rows 0: there is no next */
    int64_t done; /* lines asked for */
};

static struct product_item item_at(const struct kern_product *a, int64_t i) {
    int64_t col_items = kern_product_col_items(a);
    struct product_item x = {.i0 = i / col_items * a->item_rows,
                             .j0 = i % col_items * a->item_cols};
    x.rows = least(a->item_rows, a->m - x.i0);
    x.cols = least(a->item_cols, a->n - x.j0);
    x.vectors = (x.cols + VL - 1) / VL;
    return x;
}

/* What is packed after block k of term t of item i. */
static struct panel_source source_after(const struct kern_product *a, int64_t i, int64_t t,
                                        int64_t k) {
    enum { LINE = 64 };
    struct panel_source none = {0};
    k += block_of(&a->terms[t], k);
    if (k >= a->terms[t].k) {
        k = 0;
        t++;
    }
    if (t >= a->n_terms) {
        t = 0;
        i += a->item_step;
    }
    struct product_item x = item_at(a, i);
    const struct kern_term *term = &a->terms[t];
    if (x.rows <= 0 || term->k == 0) return none;
    int64_t n_k = block_of(term, k), along = term->trans_b ? n_k : x.cols;
    int64_t row = term->trans_b ? x.j0 : k, col = term->trans_b ? k : x.j0;
    int64_t ld = b_bytes(term, term->ldb);
    return (struct panel_source){.p = (const char *)term->b + row * ld + b_bytes(term, col),
                                 .ld = ld,
                                 .rows = term->trans_b ? x.cols : n_k,
                                 .lines = (b_bytes(term, along) + LINE - 1) / LINE};
}

/* Ask for the lines that are due after `part` of `parts` groups. */
static void fetch_ahead(struct panel_source *f, int64_t part, int64_t parts) {
    int64_t due = f->rows * f->lines * part / parts;
    if (f->rows == 0) return;
    const char *row = f->p + f->done / f->lines * f->ld;
    for (int64_t line = f->done % f->lines; f->done < due; f->done++) {
        _mm_prefetch(row + 64 * line, _MM_HINT_T1);
        if (++line < f->lines) continue;
        line = 0;
        row += f->ld;
    }
}

/* Rows [first, first + n) of the item into C. */
static void product_store(const struct kern_product *a, const struct product_item *x,
                          const float *sums, int64_t first, int64_t n_rows) {
    vf alpha = vf_set((float)a->alpha), beta = vf_set((float)a->beta);
    for (int64_t i = first; i < first + n_rows; i++)
        for (int64_t j = 0; j < x->cols; j += VL) {
            int64_t n = lanes_left(j, x->cols), row = x->i0 + i, col = x->j0 + j;
            vf v = alpha * vf_load(sums + i * TILE + j);
            if (a->factor) v = v * vf_load_any(DT_F32, a->factor, col, n);
            if (a->addend)
                v = vf_fma(beta,
                           vf_load_any(a->addend_type, a->addend, row * a->ld_addend + col, n), v);
            if (a->bias) v = v + vf_load_any(a->bias_type, a->bias, col, n);
            vf_store_any(a->c_type, a->c, row * a->ldc + col, n, v);
        }
}

#include "kern/x86/product_few_tmpl.h"

/* Bits of n lanes from column `first` on, a multiple of 8. */
static inline uint32_t mask_bits(const uint8_t *row, int64_t first, int64_t n) {
    uint32_t bits = row[first / 8];
    return n > 8 ? bits | (uint32_t)row[first / 8 + 1] << 8 : bits;
}

/* c += the masked term's sums. */
static void add_masked(const struct kern_term *t, const struct product_item *x, const float *sums,
                       float *c) {
    vf kept = vf_set((float)t->kept), dropped = vf_set((float)t->dropped), zero = vf_set(0);
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t v = 0; v < x->vectors; v++) {
            const uint8_t *row = t->mask + (x->i0 + i) * t->ld_mask;
            int64_t at = i * TILE + v * VL;
            vf s = vf_load(sums + at), out = zero;
            if (t->dropped != 0) out = s * dropped;
            out = vf_select(mask_bits(row, x->j0 + v * VL, lanes_left(v * VL, x->cols)), s * kept,
                            out);
            vf_store(c + at, vf_load(c + at) + out);
        }
}

/* An item under way: blocks of terms whose panels lie side by side, to be added by one pass over the rows. */
enum { PRODUCT_RUN = 8 };
struct product_run {
    const struct kern_product *a;
    int64_t i; /* the item's index */
    struct product_item x;
    struct product_tile *tile;
    struct unit_stretch stretch[PRODUCT_RUN];
    int n;
    int64_t steps, t, k; /* of the panels; the last block's term and place */
};

/* sums (+)= what waits.  stores: C is stored as soon as a group of rows is complete, so that the stores, which miss
 * the caches, pass beside the next group's products. */
static void run_flush(struct product_run *run, float *sums, bool add, bool stores) {
    if (run->n == 0) return;
    const struct product_item *x = &run->x;
    struct panel_source ahead = source_after(run->a, run->i, run->t, run->k);
    for (int64_t r = 0; r < x->rows; r += MICRO_ROWS) {
        int64_t n = least(MICRO_ROWS, x->rows - r);
        fetch_ahead(&ahead, r + n, x->rows);
        stretches_product(x->vectors, r, n, run->stretch, run->n, run->tile->b, sums + r * TILE,
                          add);
        if (stores) product_store(run->a, x, sums, r, n);
    }
    run->n = 0;
    run->steps = 0;
}

/* Append term t from element k on, as far as it fits beside what waits; otherwise that is added to sums first, and *add
 * becomes true. */
static void run_append(struct product_run *run, int64_t t, int64_t k, float *sums, bool *add) {
    const struct kern_term *term = &run->a->terms[t];
    struct product_tile *tile = run->tile;
    bool alone = !rows_in_place(term); /* tile->a holds one block */
    for (int64_t n_k; k < term->k; k += n_k) {
        n_k = block_of(term, k);
        int64_t steps = (n_k + UNIT - 1) / UNIT;
        if (run->n > 0 && (alone || run->n == PRODUCT_RUN || run->steps + steps > PANEL_STEPS)) {
            run_flush(run, sums, *add, false);
            *add = true;
        }
        pack_panel(term, &run->x, k, n_k, tile->w, tile->b + run->steps * TILE * UNIT);
        run->stretch[run->n++] =
            (struct unit_stretch){rows_of(term, &run->x, k, n_k, tile->a), steps};
        run->steps += steps;
        run->t = t;
        run->k = k;
    }
}

/* A masked term: sums of its own in tile->t. */
static void add_masked_term(struct product_run *run, int64_t t) {
    const struct kern_term *term = &run->a->terms[t];
    float *sums = run->tile->t;
    int64_t few = add_few(term, &run->x, run->tile, sums, false);
    bool add = few > 0;
    run_append(run, t, few, sums, &add);
    run_flush(run, sums, add, false);
    if (term->k > 0) add_masked(term, &run->x, sums, run->tile->c);
}

static void product_item(struct product_run *run) {
    const struct kern_product *a = run->a;
    const struct product_item *x = &run->x;
    float *sums = run->tile->c;
    bool add = false; /* sums hold something */
    for (int64_t t = 0; t < a->n_terms; t++) {
        const struct kern_term *term = &a->terms[t];
        if (!term->mask) {
            int64_t few = run->n > 0 ? 0 : add_few(term, x, run->tile, sums, add);
            add = add || few > 0;
            run_append(run, t, few, sums, &add);
            continue;
        }
        if (run->n > 0 || !add) {
            if (run->n == 0) memset(sums, 0, (size_t)x->rows * TILE * sizeof *sums);
            run_flush(run, sums, add, false);
            add = true;
        }
        add_masked_term(run, t);
    }
    bool waiting = run->n > 0;
    if (!waiting && !add) memset(sums, 0, (size_t)x->rows * TILE * sizeof *sums);
    run_flush(run, sums, add, true);
    if (!waiting) product_store(a, x, sums, 0, x->rows);
}

static void product(const struct kern_product *a, int64_t begin, int64_t end) {
    struct product_tile tile;
    for (int64_t i = begin; i < end; i++) {
        struct product_run run = {.a = a, .i = i, .x = item_at(a, i), .tile = &tile};
        product_item(&run);
    }
}
