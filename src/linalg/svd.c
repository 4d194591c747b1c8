/* SPDX-License-Identifier: Apache-2.0 */
/* svd.c - dense singular value decomposition by LAPACK in f64, and the certificate of its result.
 *
 * LAPACK stores by columns.  A row-major W [m, n] is, read by columns, W^T [n, m], and
 * W^T = V S U^T: so LAPACK's left factor (n x k by columns) is V^T [k, n] by rows, and its right
 * factor (k x m by columns) is U [m, k] by rows.  Nothing is transposed and nothing but W is
 * copied.
 *
 * Chain: dgesdd (divide and conquer), then dgesvd (implicit QR), each accepted only if
 *     ||W v - s u||, ||W^T u - s v|| <= 1e-10 sigma_max   and   |U^T U - I|, |V^T V - I| <= 1e-10
 * for the chosen triplets.  A zero matrix has sigma_max = 0; its residual is 0 by definition.
 * Peak memory for k = min(m, n): W + its copy + both factors + LAPACK's workspace (about 4 k^2). */
#include "linalg/svd.h"

#include <cblas.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"

/* Accepted error of a triplet relative to sigma_max, and of orthogonality.  LAPACK's own is about
 * k * 1.1e-16 <= 1.5e-11 up to k = 131072, so 1e-10 rejects a broken result and no sound one. */
static const double accept = 1e-10;

/* The factors as LAPACK leaves them: vt [k, n] and u [m, k], both row-major. */
struct dense_svd {
    int64_t m, n, k;
    double *u, *sigma, *vt;
};

static void dense_release(struct dense_svd *d) {
    mem_free(d->u);
    mem_free(d->sigma);
    mem_free(d->vt);
    memset(d, 0, sizeof *d);
}

static double *f64_array(int64_t rows, int64_t cols) {
    size_t n;
    if (!checked_mul((size_t)rows, (size_t)cols, &n)) return NULL;
    return mem_alloc(MEM_SCRATCH, n, sizeof(double));
}

static enum mil_status no_memory(int64_t rows, int64_t cols, struct mil_error *err) {
    return error_nomem(err, (uint64_t)rows * (uint64_t)cols * sizeof(double));
}

/* One LAPACK driver.  jobz: 'S' thin factors, 'N' values only.  a [m, n] is destroyed. */
typedef lapack_int (*svd_driver)(char job, struct dense_svd *d, double *a, double *work,
                                 lapack_int lwork, lapack_int *iwork);

static lapack_int run_gesdd(char job, struct dense_svd *d, double *a, double *work,
                            lapack_int lwork, lapack_int *iwork) {
    return LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, job, (lapack_int)d->n, (lapack_int)d->m, a,
                               (lapack_int)d->n, d->sigma, d->vt, (lapack_int)d->n, d->u,
                               (lapack_int)d->k, work, lwork, iwork);
}

static lapack_int run_gesvd(char job, struct dense_svd *d, double *a, double *work,
                            lapack_int lwork, lapack_int *iwork) {
    (void)iwork;
    return LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, job, job, (lapack_int)d->n, (lapack_int)d->m, a,
                               (lapack_int)d->n, d->sigma, d->vt, (lapack_int)d->n, d->u,
                               (lapack_int)d->k, work, lwork);
}

static const struct {
    const char *name;
    svd_driver run;
} chain[] = {{"dgesdd", run_gesdd}, {"dgesvd", run_gesvd}};

/* Query the workspace, take it, run.  The values go to d->sigma, for 'S' the factors too. */
static enum mil_status run_driver(size_t which, char job, struct dense_svd *d, const double *w,
                                  struct mil_error *err) {
    enum mil_status st = MIL_OK;
    double want = 0, *a = NULL, *work = NULL;
    lapack_int *iwork = NULL, info;
    if (d->m > INT_MAX || d->n > INT_MAX)
        return error_set(err, MIL_UNSUPPORTED, "SVD of a %lld x %lld matrix: LAPACK's limit is %d",
                         (long long)d->m, (long long)d->n, INT_MAX);
    info = chain[which].run(job, d, a, &want, -1, iwork);
    if (info != 0 || !(want < (double)INT_MAX))
        return error_set(err, MIL_UNSUPPORTED,
                         "SVD of a %lld x %lld matrix: %s wants a workspace of %.0f numbers, the "
                         "limit is %d",
                         (long long)d->m, (long long)d->n, chain[which].name, want, INT_MAX);
    a = f64_array(d->m, d->n);
    work = f64_array(1, (int64_t)want + 1);
    iwork = mem_alloc(MEM_SCRATCH, (size_t)d->k * 8, sizeof *iwork);
    if (!a || !work || !iwork) {
        st = no_memory(d->m, d->n, err);
        goto fail;
    }
    memcpy(a, w, (size_t)d->m * (size_t)d->n * sizeof *a);
    info = chain[which].run(job, d, a, work, (lapack_int)want, iwork);
    if (info != 0)
        st = error_set(err, MIL_NUMERIC,
                       "SVD of a %lld x %lld matrix: %s did not converge (info %d)",
                       (long long)d->m, (long long)d->n, chain[which].name, (int)info);
fail:
    mem_free(iwork);
    mem_free(work);
    mem_free(a);
    return st;
}

static enum mil_status check_input(const double *w, int64_t m, int64_t n, struct mil_error *err) {
    if (m < 1 || n < 1)
        return error_set(err, MIL_USAGE, "SVD of a %lld x %lld matrix: it has no entries",
                         (long long)m, (long long)n);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            if (!isfinite(w[i * n + j]))
                return error_set(err, MIL_NUMERIC,
                                 "entry (%lld, %lld) is %s: a weight must be finite", (long long)i,
                                 (long long)j, isnan(w[i * n + j]) ? "NaN" : "infinite");
    return MIL_OK;
}

/* ---- choosing triplets ---- */

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The rank indices into the descending singular values that the request means, ascending. */
static enum mil_status choose(const struct svd_request *q, int64_t k, int64_t *index,
                              struct mil_error *err) {
    int64_t first = 0;
    if (q->end == SVD_RANDOM) {
        int64_t *order = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *order);
        if (!order) return no_memory(1, k, err);
        rng_permutation(q->seed, rng_stream(RNG_SELECT, q->stream), 0, k, order);
        memcpy(index, order, (size_t)q->rank * sizeof *index);
        mem_free(order);
        qsort(index, (size_t)q->rank, sizeof *index, ascending);
        return MIL_OK;
    }
    if (q->end == SVD_BOTTOM) first = k - q->rank;
    if (q->end == SVD_MIDDLE) first = (k - q->rank) / 2;
    for (int64_t i = 0; i < q->rank; i++) index[i] = first + i;
    return MIL_OK;
}

/* Copy the chosen triplets out, each with its canonical sign. */
static void pick(const struct dense_svd *d, const int64_t *index, struct svd_result *out) {
    int64_t r = out->rank;
    for (int64_t t = 0; t < r; t++) {
        int64_t c = index[t], top = 0;
        for (int64_t i = 1; i < d->m; i++)
            if (fabs(d->u[i * d->k + c]) > fabs(d->u[top * d->k + c])) top = i;
        double sign = d->u[top * d->k + c] < 0 ? -1.0 : 1.0;
        for (int64_t i = 0; i < d->m; i++) out->u[i * r + t] = sign * d->u[i * d->k + c];
        for (int64_t j = 0; j < d->n; j++) out->vt[t * d->n + j] = sign * d->vt[c * d->n + j];
        out->sigma[t] = d->sigma[c];
    }
    out->sigma_max = d->sigma[0];
}

/* ---- the certificate ---- */

/* max |G - I| of the Gram matrix g [r, r]; NaN if any entry is. */
static double identity_error(const double *g, int64_t r) {
    double worst = 0;
    for (int64_t i = 0; i < r * r; i++) {
        double e = fabs(g[i] - (i % (r + 1) == 0 ? 1.0 : 0.0));
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

/* Largest norm over t of the difference x_t - sigma_t y_t.  Element i of vector t is at
 * [i * step + t * jump]. */
static double largest_difference(const double *x, const double *y, const double *sigma, int64_t len,
                                 int64_t r, int64_t step, int64_t jump) {
    double worst = 0;
    for (int64_t t = 0; t < r; t++) {
        double sum = 0;
        for (int64_t i = 0; i < len; i++) {
            double e = x[i * step + t * jump] - sigma[t] * y[i * step + t * jump];
            sum += e * e;
        }
        double norm = sqrt(sum);
        if (!(norm <= worst)) worst = norm;
    }
    return worst;
}

static enum mil_status certify(const double *w, struct svd_result *o, struct mil_error *err) {
    int m = (int)o->m, n = (int)o->n, r = (int)o->rank;
    double *wv = f64_array(o->m, o->rank), *utw = f64_array(o->rank, o->n),
           *gram = f64_array(o->rank, o->rank);
    enum mil_status st = MIL_OK;
    if (!wv || !utw || !gram) {
        st = no_memory(o->m + o->n, o->rank, err);
        goto fail;
    }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, r, n, 1.0, w, n, o->vt, n, 0.0, wv, r);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, r, n, m, 1.0, o->u, r, w, n, 0.0, utw, n);
    double left = largest_difference(wv, o->u, o->sigma, o->m, o->rank, o->rank, 1);
    double right = largest_difference(utw, o->vt, o->sigma, o->n, o->rank, 1, o->n);
    double worst = left > right || isnan(left) ? left : right;
    o->residual = o->sigma_max > 0 ? worst / o->sigma_max : worst;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, r, r, m, 1.0, o->u, r, o->u, r, 0.0, gram,
                r);
    double of_u = identity_error(gram, o->rank);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, r, r, n, 1.0, o->vt, n, o->vt, n, 0.0,
                gram, r);
    double of_v = identity_error(gram, o->rank);
    o->orthogonality = of_u > of_v || isnan(of_u) ? of_u : of_v;
fail:
    mem_free(gram);
    mem_free(utw);
    mem_free(wv);
    return st;
}

/* ---- entry points ---- */

static enum mil_status dense_new(int64_t m, int64_t n, bool factors, struct dense_svd *d,
                                 struct mil_error *err) {
    *d = (struct dense_svd){.m = m, .n = n, .k = m < n ? m : n};
    d->sigma = f64_array(1, d->k);
    if (factors) {
        d->u = f64_array(m, d->k);
        d->vt = f64_array(d->k, n);
    }
    if (d->sigma && (!factors || (d->u && d->vt))) return MIL_OK;
    dense_release(d);
    return no_memory(m > n ? m : n, m < n ? m : n, err);
}

static enum mil_status result_new(int64_t m, int64_t n, int64_t rank, struct svd_result *out,
                                  struct mil_error *err) {
    *out = (struct svd_result){.m = m, .n = n, .rank = rank};
    out->u = f64_array(m, rank);
    out->sigma = f64_array(1, rank);
    out->vt = f64_array(rank, n);
    if (out->u && out->sigma && out->vt) return MIL_OK;
    svd_release(out);
    return no_memory(m + n, rank, err);
}

/* One link of the chain, from the driver to the certificate. */
static enum mil_status attempt(size_t which, const double *w, const int64_t *index,
                               struct svd_result *out, struct mil_error *err) {
    struct dense_svd d;
    TRY(dense_new(out->m, out->n, true, &d, err));
    enum mil_status st = run_driver(which, 'S', &d, w, err);
    if (st == MIL_OK) pick(&d, index, out);
    dense_release(&d);
    TRY(st);
    TRY(certify(w, out, err));
    if (!(out->residual <= accept && out->orthogonality <= accept))
        return error_set(err, MIL_NUMERIC,
                         "SVD of a %lld x %lld matrix: %s left residual %.2g and orthogonality "
                         "error %.2g, the limit is %.0g",
                         (long long)out->m, (long long)out->n, chain[which].name, out->residual,
                         out->orthogonality, accept);
    out->served_by = chain[which].name;
    return MIL_OK;
}

enum mil_status svd_compute(const double *w, int64_t m, int64_t n,
                            const struct svd_request *request, struct svd_result *out,
                            struct mil_error *err) {
    double start = clock_seconds();
    memset(out, 0, sizeof *out);
    TRY(check_input(w, m, n, err));
    int64_t k = m < n ? m : n;
    if (request->rank < 1 || request->rank > k)
        return error_set(err, MIL_USAGE,
                         "%lld singular triplets asked of a %lld x %lld matrix: choose 1 to %lld",
                         (long long)request->rank, (long long)m, (long long)n, (long long)k);
    int64_t *index = mem_alloc(MEM_SCRATCH, (size_t)request->rank, sizeof *index);
    if (!index) return no_memory(1, request->rank, err);
    enum mil_status st;
    TRY_GOTO(choose(request, k, index, err));
    TRY_GOTO(result_new(m, n, request->rank, out, err));
    st = MIL_NUMERIC;
    for (size_t i = 0; st == MIL_NUMERIC && i < sizeof chain / sizeof *chain; i++)
        st = attempt(i, w, index, out, err);
    out->seconds = clock_seconds() - start;
fail:
    mem_free(index);
    if (st != MIL_OK) svd_release(out);
    return st;
}

void svd_release(struct svd_result *r) {
    mem_free(r->u);
    mem_free(r->sigma);
    mem_free(r->vt);
    memset(r, 0, sizeof *r);
}

enum mil_status svd_values(const double *w, int64_t m, int64_t n, double *sigma,
                           struct mil_error *err) {
    TRY(check_input(w, m, n, err));
    struct dense_svd d;
    TRY(dense_new(m, n, false, &d, err));
    enum mil_status st = MIL_NUMERIC;
    for (size_t i = 0; st == MIL_NUMERIC && i < sizeof chain / sizeof *chain; i++)
        st = run_driver(i, 'N', &d, w, err);
    if (st == MIL_OK) memcpy(sigma, d.sigma, (size_t)d.k * sizeof *sigma);
    dense_release(&d);
    return st;
}
