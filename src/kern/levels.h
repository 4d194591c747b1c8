/* SPDX-License-Identifier: Apache-2.0 */
/* levels.h - the functions by which each implementation enters its kernels into a table; private to
 * kern/. */
#ifndef MIL_KERN_LEVELS_H
#define MIL_KERN_LEVELS_H

#include "kern/kern.h"

void kern_ref_fill_f32(struct kern *k);
void kern_ref_fill_bf16(struct kern *k);
void kern_ref_fill_f64(struct kern *k);

/* The reference map, for what a variant leaves to it: f64, and plain copies. */
void kern_ref_map_f32(const struct kern_map *a, int64_t begin, int64_t end);
void kern_ref_map_bf16(const struct kern_map *a, int64_t begin, int64_t end);
void kern_ref_map_f64(const struct kern_map *a, int64_t begin, int64_t end);

void kern_avx2_fill_f32(struct kern *k);
void kern_avx2_fill_bf16(struct kern *k);
void kern_avx512_fill_f32(struct kern *k);
void kern_avx512_fill_bf16(struct kern *k);
void kern_avx512_bf16_fill_bf16(struct kern *k);

/* Enter one kernel. */
#define KERN_ENTER(k, lvl, op, fn) ((k)->op = (fn), (k)->from.op = (lvl))

#endif
