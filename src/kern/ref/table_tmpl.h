/* SPDX-License-Identifier: Apache-2.0 */
/* table_tmpl.h - all reference kernels for one pair of types (act, real), and their entry into the
 * table.  Included once by each of f32.c, bf16.c and f64.c, which define act, real, act_load,
 * act_store, real_exp, real_log, real_sqrt, ACT_TYPE, REAL_TYPE, KERN_REF_FILL and KERN_REF_MAP. */
#ifndef KERN_REF_FILL
#error "define the types first: see f32.c"
#endif
#include "kern/levels.h"

/* Helpers of the others come first. */
#include "kern/ref/any_tmpl.h"

#include "kern/ref/attention_tmpl.h"
#include "kern/ref/map_tmpl.h"

#include "kern/ref/adamw_tmpl.h"
#include "kern/ref/attention_bwd_tmpl.h"
#include "kern/ref/cross_entropy_tmpl.h"
#include "kern/ref/dropout_tmpl.h"
#include "kern/ref/factor_tmpl.h"
#include "kern/ref/importance_tmpl.h"
#include "kern/ref/product_tmpl.h"
#include "kern/ref/reduce_tmpl.h"
#include "kern/ref/rmsnorm_tmpl.h"
#include "kern/ref/rope_tmpl.h"
#include "kern/ref/swiglu_tmpl.h"
#include "kern/ref/triangle_tmpl.h"
#include "kern/ref/weigh_tmpl.h"

void KERN_REF_MAP(const struct kern_map *a, int64_t begin, int64_t end) {
    map(a, begin, end);
}

void KERN_REF_FILL(struct kern *k) {
#define KERN_REF_ENTER(op, args) KERN_ENTER(k, ISA_REF, op, op);
    KERN_OP_MAP(KERN_REF_ENTER)
#undef KERN_REF_ENTER
}
