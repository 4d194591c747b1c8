/* SPDX-License-Identifier: Apache-2.0 */
/* act_bf16.h - activations in bf16, for the bodies in this folder. */
#ifndef MIL_KERN_X86_ACT_H
#define MIL_KERN_X86_ACT_H

#include "kern/x86/simd.h"

typedef bf16 act;
#define ACT_TYPE DT_BF16
static inline vf act_load(const act *p) {
    return vf_from_bf16(p);
}
static inline void act_store(act *p, vf x) {
    vf_to_bf16(p, x);
}
static inline void act_store_wide(act *p, const vf x[WIDE]) {
    vf_to_bf16_wide(p, x);
}

#endif
