/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the methods of the partial SVD share; private to src/linalg.
 *
 * Blocks of vectors are column-major: x [k, p] holds p vectors of k contiguous numbers, ld = k.
 * The short side has k = min(m, n) entries, the long side l = max(m, n).  Every method works with
 * the operator from the short to the long side,
 *     H = W (m >= n)   or   W^T (m < n),   H [l, k],   G = H^T H [k, k],
 * finds short-side vectors x and long-side vectors y with H x = s y, H^T y = s x, and hands them
 * back as pairs; which of them is u and which v is settled in result_from_pairs. */
#ifndef MIL_LINALG_INTERNAL_H
#define MIL_LINALG_INTERNAL_H

#include <stdbool.h>

#include "linalg/svd.h"

static inline int64_t short_side(const struct svd_matrix *w) {
    return w->m < w->n ? w->m : w->n;
}
static inline int64_t long_side(const struct svd_matrix *w) {
    return w->m < w->n ? w->n : w->m;
}

/* ---- the operator (matrix.c): exact values of W, products in f64, in bounded scratch ---- */

/* Rows [begin, end) of W in f64 / f32, row-major, ld = n; uses all threads. */
void matrix_rows_f64(const struct svd_matrix *w, int64_t begin, int64_t end, double *out);
void matrix_rows_f32(const struct svd_matrix *w, int64_t begin, int64_t end, float *out);
/* y [l, p] = H x, x [k, p]. */
enum mil_status matrix_apply(const struct svd_matrix *w, const double *x, int64_t p, double *y,
                             struct mil_error *err);
/* x [k, p] = H^T y, y [l, p]. */
enum mil_status matrix_apply_t(const struct svd_matrix *w, const double *y, int64_t p, double *x,
                               struct mil_error *err);
/* Lower triangle of G = H^T H in f64, column-major, ld = k. */
enum mil_status matrix_gram(const struct svd_matrix *w, double *g, struct mil_error *err);
/* ||W||_F. MIL_INPUT names the first entry that is not finite. */
enum mil_status matrix_check(const struct svd_matrix *w, double *frobenius, struct mil_error *err);

/* ---- results (result.c) ---- */

enum mil_status result_new(const struct svd_matrix *w, int64_t rank, struct svd_result *out,
                           struct mil_error *err);
/* Pairs x [k, r], y [l, r] with sigma [r] in any order into out (from result_new): sorted
 * descending, signs made canonical. */
void result_from_pairs(const double *x, const double *y, const double *sigma,
                       struct svd_result *out);
/* Measure out->residual and out->orthogonality against W in f64. */
enum mil_status result_certify(const struct svd_matrix *w, struct svd_result *out,
                               struct mil_error *err);

/* ---- values (values.c): behind svd_values, w checked ---- */

enum mil_status values_all(const struct svd_matrix *w, double *sigma, struct mil_error *err);

/* ---- refinement of approximate singular pairs (refine.c) ---- */

/* T_i ~ (G - lambda_i I)^+ R_i for i < p, orthogonal (nearly) to the space being refined; r, t [k,
 * p] may not alias. Need only be right to a few per cent: the refinement contracts by its error. */
typedef enum mil_status (*refine_solve)(void *ctx, const double *lambda, const double *r, double *t,
                                        int64_t p, struct mil_error *err);
/* x [k, p], y [l, p], sigma [p]: on entry x nearly orthonormal, close to an invariant space of G (y
 * and sigma unset); on success singular pairs whose residual fell below `target` times scale or no
 * longer fell. */
struct refine {
    const struct svd_matrix *w;
    int64_t p;
    double *x, *y, *sigma;
    double scale;  /* sigma_max or close to it */
    double target; /* relative residual to stop at, e.g. 1e-14 */
    int max_steps;
    refine_solve solve;
    void *ctx;
    /* true: x, y, sigma and residuals are those of an earlier call, or some of their columns */
    bool started;
    double *residuals; /* NULL, or [k, p]: H^T y - s x of the pairs, in and out */
    double residual;   /* out: the largest, relative to scale */
    int steps;         /* out */
};
enum mil_status refine_pairs(struct refine *f, struct mil_error *err);

/* ---- the methods: one file each, one row of the chain in svd.c ---- */

struct svd_method {
    const char *name;
    /* Worth trying for these indices (ascending) of this shape. */
    bool (*suits)(const struct svd_matrix *w, const int64_t *index, int64_t rank);
    /* Fill out (from result_new) but for residual and orthogonality, which the caller measures.
     * MIL_NUMERIC: this method cannot, the next one is tried. */
    enum mil_status (*run)(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err);
    size_t (*memory)(int64_t m, int64_t n, int64_t rank);
    double accept; /* largest residual and orthogonality error of a sound result */
};
extern const struct svd_method method_krylov, method_slice, method_tridiagonal, method_gesdd,
    method_gesvd;

#endif
