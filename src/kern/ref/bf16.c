/* SPDX-License-Identifier: Apache-2.0 */
/* bf16.c - the reference kernels for activations in bf16, sums in f32. */
#include "kern/ref/real_f32.h"

typedef bf16 act;
#define ACT_TYPE DT_BF16
static inline real act_load(act x) {
    return bf16_to_f32(x);
}
static inline act act_store(real x) {
    return bf16_from_f32(x);
}
#define KERN_REF_FILL kern_ref_fill_bf16
#define KERN_REF_MAP kern_ref_map_bf16
#include "kern/ref/table_tmpl.h"
