/* SPDX-License-Identifier: Apache-2.0 */
/* svd.h - chosen singular triplets of a weight matrix, in f64, with their certificate.
 *
 * W = U S V^T, W [m, n] row-major, singular values in descending order s_0 >= s_1 >= ... >=
 * s_{k-1}, k = min(m, n).  Now LAPACK's divide and conquer (dgesdd) with dgesvd as fallback;
 * methods that find a part only join as further entries of the chain.  Signs are canonical: the
 * entry of largest magnitude of each left vector (the first of equals) is positive. */
#ifndef MIL_LINALG_SVD_H
#define MIL_LINALG_SVD_H

#include <stdint.h>

#include "core/error.h"

enum svd_end { SVD_BOTTOM, SVD_TOP, SVD_MIDDLE, SVD_RANDOM };

struct svd_request {
    enum svd_end end;
    int64_t rank;
    uint64_t seed;   /* SVD_RANDOM: which triplets, by Philox (seed, RNG_SELECT + stream) */
    uint32_t stream; /* SVD_RANDOM: the module's number */
};
/* r triplets, sigma descending.  u: [m, r] row-major; vt: [r, n] row-major. svd_release frees. */
struct svd_result {
    int64_t m, n, rank;
    double *u, *sigma, *vt;
    double sigma_max; /* of the whole matrix */
    double residual;  /* max over triplets of ||W v - s u|| and ||W^T u - s v||, over sigma_max */
    double orthogonality; /* max |U^T U - I|, |V^T V - I| */
    double seconds;
    const char *served_by; /* "dgesdd", "dgesvd" */
};
/* w: f64, m x n row-major, finite (MIL_NUMERIC names the first entry that is not). rank in [1,
 * min(m, n)] (MIL_USAGE).  A result whose residual or orthogonality exceeds 1e-10 is recomputed by
 * the next method; none left: MIL_NUMERIC. */
enum mil_status svd_compute(const double *w, int64_t m, int64_t n,
                            const struct svd_request *request, struct svd_result *out,
                            struct mil_error *err);
void svd_release(struct svd_result *r);
/* Singular values only, descending, min(m, n) of them into sigma. */
enum mil_status svd_values(const double *w, int64_t m, int64_t n, double *sigma,
                           struct mil_error *err);

#endif
