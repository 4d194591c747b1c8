/* SPDX-License-Identifier: Apache-2.0 */
/* dequant.h - rows of any float storage type as f32, and back for the plain types.
 *
 * The block formats are those of GGUF; docs/formats/gguf.md has their layouts and equations. */
#ifndef MIL_KERN_DEQUANT_H
#define MIL_KERN_DEQUANT_H

#include <stdint.h>

#include "core/dtype.h"

/* n elements (a multiple of the block) of src, stored as t, into dst.  dtype_is_float(t). src may
 * be unaligned. */
void dequant_to_f32(enum dtype t, const void *src, int64_t n, float *dst);
/* t is a block type: index of the first element of the first block with a factor that is NaN or infinite (that element
 * then is, too), -1 if all are finite. */
int64_t dequant_first_nonfinite(enum dtype t, const void *src, int64_t n);
/* n f32 into a plain float type, rounding to nearest even. */
void quant_from_f32(enum dtype t, const float *src, int64_t n, void *dst);

#endif
