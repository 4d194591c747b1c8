/* SPDX-License-Identifier: Apache-2.0 */
/* svd.h - chosen singular triplets of a weight matrix, in f64, with their certificate.
 *
 * W = sum_i s_i u_i v_i^T, W [m, n], singular values in descending order s_0 >= s_1 >= ... >=
 * s_{k-1}, k = min(m, n).  A chain of methods, the cheapest for the shape and the request first and
 * LAPACK's full decomposition last, is tried until one passes its certificate:
 *   residual       max over triplets of ||W v - s u|| and ||W^T u - s v||, relative to s_0
 *   orthogonality  max |U^T U - I|, |V^T V - I|
 *   cut            proof that the triplets are those of the asked indices (struct svd_result)
 * Signs are canonical: the entry of largest magnitude of each left vector (the first of equals) is
 * positive.  The same input gives the same bits on one machine, build and number of threads.
 * docs/svd.md has the methods and their measurements.
 *
 * Called outside a parallel region, all threads work on the one matrix; called inside parallel_for,
 * the calling thread does all the work: that is how several matrices go side by side. */
#ifndef MIL_LINALG_SVD_H
#define MIL_LINALG_SVD_H

#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

/* A borrowed matrix [m, n], row-major, contiguous; DT_BF16, DT_F16, DT_F32 or DT_F64.  The values
 * are taken exactly as they are. */
struct svd_matrix {
    const void *data;
    enum dtype dtype;
    int64_t m, n;
};

/* Which triplets: the r smallest, the r largest, those from index floor((k - r) / 2) on, r drawn
 * without repetition, r given ones. */
enum svd_end { SVD_BOTTOM, SVD_TOP, SVD_MIDDLE, SVD_RANDOM, SVD_CHOSEN };

struct svd_request {
    enum svd_end end;
    int64_t rank;
    uint64_t seed;         /* SVD_RANDOM: which triplets, by Philox (seed, RNG_SELECT + stream) */
    uint32_t stream;       /* SVD_RANDOM: the module's number */
    const int64_t *chosen; /* SVD_CHOSEN: rank indices into the descending values, ascending */
    const char *only;      /* NULL, or the one method of the chain to use, by name (benches, tests);
                              a failed certificate is then MIL_NUMERIC */
};
/* rank triplets, sigma descending.  svd_release frees. */
struct svd_result {
    int64_t m, n, rank;
    double *u;        /* [rank, m]: row t is u_t */
    double *sigma;    /* [rank] */
    double *v;        /* [rank, n]: row t is v_t */
    double sigma_max; /* s_0 of the whole matrix (residual methods: to 1e-6 relative or better) */
    double residual, orthogonality; /* measured on these very arrays */
    /* The proof of the indices: at most this far (relative to s_0) may a value that is not here lie
     * inside the range of values that are here.  0 where the proof separates them; full
     * decompositions: their backward error. */
    double cut;
    double seconds;
    const char *served_by; /* name of the method; static storage */
};
/* w: finite (MIL_INPUT names the first entry that is not).  rank in [1, k], chosen strictly
 * ascending within [0, k), `only` a known method (MIL_USAGE).  No method's result passes: MIL_NUMERIC. */
enum mil_status svd_compute(const struct svd_matrix *w, const struct svd_request *request,
                            struct svd_result *out, struct mil_error *err);
void svd_release(struct svd_result *r);
/* The indices that the request means, ascending, rank of them into index.  MIL_USAGE as above. */
enum mil_status svd_indices(const struct svd_request *request, int64_t m, int64_t n, int64_t *index,
                            struct mil_error *err);
/* All min(m, n) singular values, descending, into sigma; error at most 1e-10 s_0. */
enum mil_status svd_values(const struct svd_matrix *w, double *sigma, struct mil_error *err);
/* Bytes of scratch and result that svd_compute needs at its peak while the first method of the
 * chain serves (an upper estimate; a fallback may need more), for planning. */
size_t svd_memory(int64_t m, int64_t n, const struct svd_request *request);
/* Names of the methods in the order of the chain, NULL-terminated. */
const char *const *svd_methods(void);

#endif
