/* SPDX-License-Identifier: Apache-2.0 */
/* slice_locate.h - a shift in the middle of a window of indices; private to the method "slice". */
#ifndef MIL_LINALG_SLICE_LOCATE_H
#define MIL_LINALG_SLICE_LOCATE_H

#include "linalg/slice_ldlt.h"

struct locate {
    const float *g; /* [k, k] lower triangle, ld = k, mean eigenvalue about 1 */
    int64_t k, low, high;
    double mu;      /* out: near the middle of the window ... */
    int64_t below;  /* ... with so many eigenvalues below it */
    double spacing; /* out: of eigenvalues in the window, an estimate */
    double largest; /* out: the largest eigenvalue */
};
/* On success f holds the factorisation of g - mu I. */
enum mil_status slice_locate(struct locate *c, struct ldlt *f, struct mil_error *err);

#endif
