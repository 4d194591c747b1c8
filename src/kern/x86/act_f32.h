/* SPDX-License-Identifier: Apache-2.0 */
/* act_f32.h - activations in f32, for the bodies in this folder. */
#ifndef MIL_KERN_X86_ACT_H
#define MIL_KERN_X86_ACT_H

#include "kern/x86/simd.h"

typedef float act;
#define ACT_TYPE DT_F32
static inline vf act_load(const act *p) {
    return vf_load(p);
}
static inline void act_store(act *p, vf x) {
    vf_store(p, x);
}
static inline void act_store_wide(act *p, const vf x[WIDE]) {
    for (int k = 0; k < WIDE; k++) vf_store(p + k * VL, x[k]);
}

#endif
