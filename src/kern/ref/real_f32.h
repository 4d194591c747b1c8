/* SPDX-License-Identifier: Apache-2.0 */
/* real_f32.h - the words in which ref/ is written, where sums are in f32. */
#ifndef MIL_KERN_REF_REAL_F32_H
#define MIL_KERN_REF_REAL_F32_H
#include <math.h>

#include "core/dtype.h"

typedef float real;
#define REAL_TYPE DT_F32
#define real_exp expf
#define real_log logf
#define real_sqrt sqrtf

#endif
