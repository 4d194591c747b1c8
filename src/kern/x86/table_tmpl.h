/* SPDX-License-Identifier: Apache-2.0 */
/* table_tmpl.h - all vector bodies, and their entry into the table.  Included once by each of
 * <act>_<isa>.c, which include act_<act>.h and define KERN_FILL and KERN_ISA. */
#ifndef KERN_FILL
#error "included by f32_avx2.c and its like"
#endif
#include "kern/levels.h"

/* Helpers of the others come first. */
#include "kern/x86/vector_tmpl.h"

#include "kern/x86/micro_tmpl.h"

#include "kern/x86/attention_tmpl.h"
#include "kern/x86/cross_entropy_tmpl.h"
#include "kern/x86/dropout_tmpl.h"
#include "kern/x86/elementwise_tmpl.h"
#include "kern/x86/factor_tmpl.h"
#include "kern/x86/product_tmpl.h"
#include "kern/x86/reduce_tmpl.h"
#include "kern/x86/rmsnorm_tmpl.h"
#include "kern/x86/rope_tmpl.h"
#include "kern/x86/triangle_tmpl.h"
#include "kern/x86/weigh_tmpl.h"

#include "kern/x86/attention_bwd_tmpl.h"
#include "kern/x86/attention_few_tmpl.h"

void KERN_FILL(struct kern *k) {
#define KERN_VECTOR_ENTER(op, args) KERN_ENTER(k, KERN_ISA, op, op);
    KERN_OP_MAP(KERN_VECTOR_ENTER)
#undef KERN_VECTOR_ENTER
}
