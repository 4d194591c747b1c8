/* SPDX-License-Identifier: Apache-2.0 */
/* weight.h - a stored weight as a matrix of a plain type, exactly. */
#ifndef MIL_ANALYSIS_WEIGHT_H
#define MIL_ANALYSIS_WEIGHT_H

#include "linalg/svd.h"
#include "model/checkpoint.h"

/* *w: the weight where it lies, or a copy in f32 (exact for every block type) that *copy owns
 * (mem_free; NULL without a copy, also after failure).  MIL_NOMEM. */
enum mil_status weight_matrix(const struct weight_view *v, struct svd_matrix *w, float **copy,
                              struct mil_error *err);
/* ||W||_F of a plain float type, summed in f64; one thread. */
double weight_frobenius(const struct svd_matrix *w);

#endif
