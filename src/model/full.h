/* SPDX-License-Identifier: Apache-2.0 */
/* full.h - what full fine-tuning holds (internal to src/model). */
#ifndef MIL_MODEL_FULL_H
#define MIL_MODEL_FULL_H

#include "model/internal.h"

enum full_part { FULL_MASTERS, FULL_GRADIENTS, FULL_COPIES, FULL_PARTS };
struct full {
    struct model *m;
    struct trainable trainable; /* one param a weight, canonical order; the head only if untied */
    struct arena slab[FULL_PARTS];
};
size_t full_bytes_of(struct tensor t);

#endif
