/* SPDX-License-Identifier: Apache-2.0 */
/* weight_view.h - conversion of a stored weight into a type of computation, with the search for NaN
 * and infinity (internal to src/model). */
#ifndef MIL_MODEL_WEIGHT_VIEW_H
#define MIL_MODEL_WEIGHT_VIEW_H

#include "model/checkpoint.h"

/* The whole weight into dst, row-major, as t (a plain float type); uses all threads.  Returns the
 * index of the first element that is NaN or infinite in the stored values, -1 if there is none. */
int64_t weight_convert(const struct weight_view *v, enum dtype t, void *dst);
/* The same search without a copy. */
int64_t weight_first_nonfinite(const struct weight_view *v);
/* The blocks of a matrix, its rows in the model's order. */
void weight_blocks(const struct weight_view *v, void *dst);

#endif
