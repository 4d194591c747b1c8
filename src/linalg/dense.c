/* SPDX-License-Identifier: Apache-2.0 */
/* dense.c - the full decomposition by LAPACK in f64: the end of the chain, and the oracle of the
 * tests.
 *
 * Divide and conquer (dgesdd), then implicit QR (dgesvd).  LAPACK stores by columns.  A row-major
 * W [m, n] is, read by columns, W^T [n, m], and W^T = V S U^T: so LAPACK's left factor (n x k by
 * columns) holds the v_t and its right factor (k x m by columns) the u_t, interleaved.  Peak memory
 * for k = min(m, n): W + both factors + LAPACK's workspace (about 4 k^2). */
#include <lapacke.h>
#include <limits.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/internal.h"

/* The factors as LAPACK leaves them: v [k, n] by rows, u [m, k] by rows. */
struct dense_svd {
    int64_t m, n, k;
    double *a, *u, *sigma, *v;
};

static void dense_release(struct dense_svd *d) {
    mem_free(d->a);
    mem_free(d->u);
    mem_free(d->sigma);
    mem_free(d->v);
    memset(d, 0, sizeof *d);
}

static double *f64_array(int64_t rows, int64_t cols) {
    size_t n;
    if (!checked_mul((size_t)rows, (size_t)cols, &n)) return NULL;
    return mem_alloc(MEM_SCRATCH, n, sizeof(double));
}

static enum mil_status dense_new(const struct svd_matrix *w, struct dense_svd *d,
                                 struct mil_error *err) {
    *d = (struct dense_svd){.m = w->m, .n = w->n, .k = short_side(w)};
    if (w->m > INT_MAX || w->n > INT_MAX)
        return error_set(err, MIL_UNSUPPORTED, "SVD of a %lld x %lld matrix: LAPACK's limit is %d",
                         (long long)w->m, (long long)w->n, INT_MAX);
    d->a = f64_array(d->m, d->n);
    d->sigma = f64_array(1, d->k);
    d->u = f64_array(d->m, d->k);
    d->v = f64_array(d->k, d->n);
    if (d->a && d->sigma && d->u && d->v) return MIL_OK;
    dense_release(d);
    return error_nomem(err, (uint64_t)w->m * (uint64_t)w->n * sizeof(double));
}

/* One LAPACK driver, thin factors; a [m, n] is destroyed. */
typedef lapack_int (*dense_driver)(struct dense_svd *d, double *work, lapack_int lwork,
                                   lapack_int *iwork);

static lapack_int run_gesdd(struct dense_svd *d, double *work, lapack_int lwork,
                            lapack_int *iwork) {
    return LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', (lapack_int)d->n, (lapack_int)d->m, d->a,
                               (lapack_int)d->n, d->sigma, d->v, (lapack_int)d->n, d->u,
                               (lapack_int)d->k, work, lwork, iwork);
}

static lapack_int run_gesvd(struct dense_svd *d, double *work, lapack_int lwork,
                            lapack_int *iwork) {
    (void)iwork;
    return LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', (lapack_int)d->n, (lapack_int)d->m, d->a,
                               (lapack_int)d->n, d->sigma, d->v, (lapack_int)d->n, d->u,
                               (lapack_int)d->k, work, lwork);
}

/* Query the workspace, take it, run. */
static enum mil_status decompose(const char *name, dense_driver driver, const struct svd_matrix *w,
                                 struct dense_svd *d, struct mil_error *err) {
    enum mil_status st = MIL_OK;
    double want = 0, *work = NULL;
    lapack_int *iwork = NULL, info = driver(d, &want, -1, iwork);
    if (info != 0 || !(want < (double)INT_MAX))
        return error_set(err, MIL_UNSUPPORTED,
                         "SVD of a %lld x %lld matrix: %s wants a workspace of %.0f numbers, the "
                         "limit is %d",
                         (long long)d->m, (long long)d->n, name, want, INT_MAX);
    work = f64_array(1, (int64_t)want + 1);
    iwork = mem_alloc(MEM_SCRATCH, (size_t)d->k * 8, sizeof *iwork);
    if (!work || !iwork) {
        st = error_nomem(err, (uint64_t)want * sizeof *work);
        goto fail;
    }
    matrix_rows_f64(w, 0, w->m, d->a);
    info = driver(d, work, (lapack_int)want, iwork);
    if (info != 0)
        st = error_set(err, MIL_NUMERIC,
                       "SVD of a %lld x %lld matrix: %s did not converge (info %d)",
                       (long long)d->m, (long long)d->n, name, (int)info);
fail:
    mem_free(iwork);
    mem_free(work);
    return st;
}

/* The chosen triplets, gathered into pairs. */
static enum mil_status pick(const struct dense_svd *d, const int64_t *index, struct svd_result *out,
                            struct mil_error *err) {
    int64_t r = out->rank;
    double *u = f64_array(d->m, r), *v = f64_array(d->n, r), *sigma = f64_array(1, r);
    bool enough = u && v && sigma;
    for (int64_t t = 0; enough && t < r; t++) {
        sigma[t] = d->sigma[index[t]];
        for (int64_t i = 0; i < d->m; i++) u[t * d->m + i] = d->u[i * d->k + index[t]];
        memcpy(v + t * d->n, d->v + index[t] * d->n, (size_t)d->n * sizeof *v);
    }
    if (enough) result_from_pairs(d->m < d->n ? u : v, d->m < d->n ? v : u, sigma, out);
    mem_free(sigma);
    mem_free(v);
    mem_free(u);
    return enough ? MIL_OK : error_nomem(err, (uint64_t)((d->m + d->n) * r) * sizeof *u);
}

static enum mil_status run(const char *name, dense_driver driver, const struct svd_matrix *w,
                           const int64_t *index, struct svd_result *out, struct mil_error *err) {
    struct dense_svd d;
    TRY(dense_new(w, &d, err));
    enum mil_status st = decompose(name, driver, w, &d, err);
    if (st == MIL_OK) st = pick(&d, index, out, err);
    if (st == MIL_OK) {
        out->sigma_max = d.sigma[0];
        out->cut = (double)d.k * 2.3e-16; /* LAPACK's backward error, a modest multiple of k eps */
    }
    dense_release(&d);
    return st;
}

static enum mil_status gesdd(const struct svd_matrix *w, const int64_t *index, double frobenius,
                             struct svd_result *out, struct mil_error *err) {
    (void)frobenius;
    return run("dgesdd", run_gesdd, w, index, out, err);
}

static enum mil_status gesvd(const struct svd_matrix *w, const int64_t *index, double frobenius,
                             struct svd_result *out, struct mil_error *err) {
    (void)frobenius;
    return run("dgesvd", run_gesvd, w, index, out, err);
}

static bool suits_any(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    (void)w, (void)index, (void)rank;
    return true;
}

static size_t memory(int64_t m, int64_t n, int64_t rank) {
    int64_t k = m < n ? m : n;
    return (size_t)(m * n + k * (m + n) + 4 * k * k + 3 * rank * (m + n)) * sizeof(double);
}

/* Accepted errors: LAPACK's own is about k * 1.1e-16 <= 1.5e-11 up to k = 131072, so 1e-10 rejects a
 * broken result and no sound one. */
const struct svd_method method_gesdd = {"dgesdd", suits_any, gesdd, memory, 1e-10};
const struct svd_method method_gesvd = {"dgesvd", suits_any, gesvd, memory, 1e-10};
