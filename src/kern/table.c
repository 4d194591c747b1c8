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
