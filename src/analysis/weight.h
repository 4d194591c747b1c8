/* SPDX-License-Identifier: Apache-2.0 */
/* weight.h - numbers from the entries of a weight. */
#ifndef MIL_ANALYSIS_WEIGHT_H
#define MIL_ANALYSIS_WEIGHT_H

#include "linalg/svd.h"

/* ||W||_F of a plain float type, summed in f64; one thread. */
double weight_frobenius(const struct svd_matrix *w);

#endif
