/* SPDX-License-Identifier: Apache-2.0 */
/* f32.c - the reference kernels for activations in f32, sums in f32. */
#include "kern/ref/real_f32.h"

typedef float act;
#define ACT_TYPE DT_F32
static inline real act_load(act x) {
    return x;
}
static inline act act_store(real x) {
    return x;
}
#define KERN_REF_FILL kern_ref_fill_f32
#define KERN_REF_MAP kern_ref_map_f32
#include "kern/ref/table_tmpl.h"
