/* SPDX-License-Identifier: Apache-2.0 */
/* values.c - all singular values of a weight, without the vectors.
 *
 * s_j = sqrt(lambda_j), lambda_j by tridiagonalisation of the Gram matrix.  A backward error eta in
 * lambda_j is one of eta / (2 s_j) in s_j: too much for the smallest values, and those few are
 * computed again from refined pairs (right to their residual).  Where they are many, or do not
 * converge, or the squares are out of range, LAPACK's bidiagonalisation (dgesdd without vectors,
 * after a QR factorisation where one side is much longer) does the whole; its backward error is a
 * modest multiple of eps s_0.
 *
 * eta: rounding errors add up at random, and then the norm of the error of G grows as the square root
 * of the number of operations behind an entry (Higham and Mary, "A new approach to probabilistic
 * rounding error analysis", 2019):  eta = 4 sqrt(k) eps s_0^2.  Differences to
 * dgesdd on SmolLM2's matrices are 0.2 to 1.5 sqrt(k) eps s_0^2, its own error included. */
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/tridiagonal.h"

static const double allowed = 5e-11; /* error of a value, relative to s_0 */

/* ---- bidiagonalisation ---- */

static enum mil_status values_dense(const struct svd_matrix *w, double *sigma,
                                    struct mil_error *err) {
    enum mil_status st = MIL_OK;
    lapack_int m = (lapack_int)w->m, n = (lapack_int)w->n, k = (lapack_int)short_side(w), info;
    double want = 0, *work = NULL, none[1];
    double *a = mem_alloc(MEM_SCRATCH, (size_t)(w->m * w->n), sizeof *a);
    lapack_int *iwork = mem_alloc(MEM_SCRATCH, (size_t)k * 8, sizeof *iwork);
    if (!a || !iwork) {
        st = error_nomem(err, (uint64_t)(w->m * w->n) * sizeof *a);
        goto fail;
    }
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', n, m, a, n, sigma, none, 1, none, 1, &want, -1,
                        iwork);
    work = mem_alloc(MEM_SCRATCH, (size_t)want + 1, sizeof *work);
    if (!work) {
        st = error_nomem(err, (uint64_t)want * sizeof *work);
        goto fail;
    }
    matrix_rows_f64(w, 0, w->m, a);
    info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', n, m, a, n, sigma, none, 1, none, 1, work,
                               (lapack_int)want, iwork);
    if (info != 0)
        st = error_set(err, MIL_NUMERIC,
                       "singular values of a %lld x %lld matrix: dgesdd did not converge (info %d)",
                       (long long)w->m, (long long)w->n, (int)info);
fail:
    mem_free(work);
    mem_free(iwork);
    mem_free(a);
    return st;
}

/* ---- the Gram matrix ---- */

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* How many values, from the lowest, the Gram matrix does not give to the allowed error. */
static int doubtful(const struct reduction *t) {
    double eta = 4 * sqrt((double)t->k) * 0x1p-52 * t->largest, s0 = sqrt(t->largest);
    int n = 0;
    while (n < t->k && t->lambda[n] < t->largest &&
           !(t->lambda[n] > 0 && eta / (2 * sqrt(t->lambda[n])) <= allowed * s0))
        n++;
    return t->largest > 0 ? n : 0;
}

/* Refine the lowest n values. */
static enum mil_status refine_lowest(struct reduction *t, int n, double *sigma,
                                     struct mil_error *err) {
    int64_t *index = mem_alloc(MEM_SCRATCH, (size_t)n, sizeof *index);
    if (!index) return error_nomem(err, (uint64_t)n * sizeof *index);
    double residual = 0;
    for (int i = 0; i < n; i++) index[i] = t->k - n + i;
    enum mil_status st = reduction_refine(t, index, n, allowed / 10, &residual, err);
    mem_free(index);
    if (st != MIL_OK) return st;
    if (!(residual <= allowed))
        return error_set(err, MIL_NUMERIC, "singular values: residual %.2g after refinement",
                         residual);
    memcpy(sigma + (t->k - t->p), t->sigma, (size_t)t->p * sizeof *sigma);
    return MIL_OK;
}

/* MIL_NUMERIC: not by this way. */
static enum mil_status values_gram(const struct svd_matrix *w, double *sigma,
                                   struct mil_error *err) {
    struct reduction t;
    enum mil_status st = reduction_run(w, 0, &t, err);
    if (st != MIL_OK) goto fail;
    int k = t.k, low = doubtful(&t);
    for (int i = 0; i < k; i++) sigma[i] = sqrt(fmax(t.lambda[k - 1 - i], 0));
    if (low > k / 8)
        st = error_set(err, MIL_NUMERIC, "singular values: %d of %d are too small", low, k);
    else if (low > 0)
        st = refine_lowest(&t, low, sigma, err);
    if (st == MIL_OK) qsort(sigma, (size_t)k, sizeof *sigma, descending);
fail:
    reduction_release(&t);
    return st;
}

enum mil_status values_all(const struct svd_matrix *w, double *sigma, struct mil_error *err) {
    double frobenius = 1;
    if (w->m > INT_MAX || w->n > INT_MAX)
        return error_set(err, MIL_UNSUPPORTED,
                         "singular values of a %lld x %lld matrix: LAPACK's limit is %d",
                         (long long)w->m, (long long)w->n, INT_MAX);
    if (w->dtype == DT_F64) TRY(matrix_check(w, &frobenius, err));
    enum mil_status st = MIL_NUMERIC;
    if (reduction_in_range(w, frobenius)) st = values_gram(w, sigma, err);
    return st == MIL_NUMERIC ? values_dense(w, sigma, err) : st;
}
