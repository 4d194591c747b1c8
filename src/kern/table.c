/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - the reference fills the table, then each level up to the one asked for overwrites what
 * it has a variant of.  f64 exists as reference only: it is there to be right. */
#include "kern/kern.h"

#include <string.h>

#include "core/error.h"
#include "kern/levels.h"

static void fill_f32(struct kern *k, enum isa level) {
    kern_ref_fill_f32(k);
    if (level >= ISA_AVX2) kern_avx2_fill_f32(k);
    if (level >= ISA_AVX512) kern_avx512_fill_f32(k);
}

static void fill_bf16(struct kern *k, enum isa level) {
    kern_ref_fill_bf16(k);
    if (level >= ISA_AVX2) kern_avx2_fill_bf16(k);
    if (level >= ISA_AVX512) kern_avx512_fill_bf16(k);
    if (level >= ISA_AVX512_BF16) kern_avx512_bf16_fill_bf16(k);
}

void kern_table_init(struct kern *k, enum dtype act, enum isa level) {
    REQUIRE(act == DT_F32 || act == DT_BF16 || act == DT_F64);
    memset(k, 0, sizeof *k);
    k->act = act;
    k->real = act == DT_F64 ? DT_F64 : DT_F32;
    k->level = level < cpu_isa_found() ? level : cpu_isa_found();
    switch (act) {
    case DT_F32: fill_f32(k, k->level); break;
    case DT_BF16: fill_bf16(k, k->level); break;
    default: kern_ref_fill_f64(k); break;
    }
}

static int64_t parts(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

int64_t kern_product_cut(struct kern_product *a, int64_t threads) {
    /* Eight items a thread even out their ends; below LEAST rows the packing of B would show. */
    enum { EACH = 8, LEAST = 48 };
    int64_t cols = KERN_PRODUCT_COLS, wanted = threads > 1 ? EACH * threads : 1;
    int64_t col_items = parts(a->n, cols), row_items = parts(a->m, KERN_PRODUCT_ROWS);
    a->item_step = threads;
    if (a->m == 0 || a->n == 0) {
        a->item_rows = a->item_cols = 1;
        return 0;
    }
    if (row_items * col_items < wanted) {
        int64_t most = parts(a->m, LEAST), more = parts(wanted, col_items);
        if (more > most) more = most;
        if (more > row_items) row_items = more;
    }
    if (row_items * col_items < wanted) cols /= 2;
    int64_t rows = parts(a->m, row_items);
    a->item_rows = parts(rows, KERN_PRODUCT_STEP) * KERN_PRODUCT_STEP;
    a->item_cols = cols;
    return parts(a->m, a->item_rows) * parts(a->n, cols);
}
