/* SPDX-License-Identifier: Apache-2.0 */
/* alignment.h - what an adapter starts from in one module, beside the spectrum of its weight. */
#ifndef MIL_ADAPT_ALIGNMENT_H
#define MIL_ADAPT_ALIGNMENT_H

#include "adapt/adapter.h"

/* Shares lie in [0, 1].  Column space: of B0, row space: of A0 (of what trains in their place where the method has
 * another start); what a method starts at zero spans nothing, and its numbers are -1. */
struct alignment {
    double part; /* ||s B0 A0||_F / ||W||_F */
    double a, b; /* ||A0||_F, ||B0||_F */
    double energy_left,
        energy_right; /* of sum sigma^2: what W has in the column and the row space */
    /* Mean squared cosine of the angles to the r first and last left singular vectors of W (column space), and right
     * ones (row space): 1 inside of them, r / m and r / n for a random space. */
    double left_top, left_bottom, right_top, right_bottom;
    /* Adam's first update moves every trained entry by its learning rate, with the gradient's sign: with signs at
     * random the root mean square of ||change of W||_F / ||W||_F at learning rate `rate`. */
    double first_step;
};
/* Of every delta of a at step 0, by its base; out [a->n].  The top and bottom triplets come from the cache (NULL:
 * computed).  Statuses of svd_compute. */
enum mil_status alignment_of_adapter(const struct adapter *a, const struct checkpoint *base,
                                     double rate, struct svd_cache *cache, struct alignment *out,
                                     struct mil_error *err);

#endif
