/* SPDX-License-Identifier: Apache-2.0 */
/* deflated.c - the deflated Cholesky factor: solver of the refinement and proof of completeness.
 *
 *     A = side (C - theta I) + tau V V^T
 * With V near the space of the p wanted eigenvalues and theta just inside the remaining ones, A is
 * positive definite, and on the complement of V it is side (C - theta I).  A correction solves
 *     side (C - lambda_i I) x = A x + delta_i x = r_i,   delta_i = side (theta - lambda_i),
 * there: Chebyshev's iteration on I + delta_i A^-1, whose spectrum lies in [1 + delta_i / far, 1 +
 * delta_i / near] (or turned round where delta_i < 0).  Each step costs two triangular solves in
 * f32; the right-hand sides are scaled to norm 1, and what f32 leaves is corrected by the next
 * Newton step, which measures in f64. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "linalg/krylov.h"

enum mil_status deflated_factor(struct deflated *d, struct mil_error *err) {
    int k = (int)d->k, p = (int)d->p;
    for (int64_t j = 0; d->side < 0 && j < d->k; j++)
        for (int64_t i = j; i < d->k; i++) d->factor[i + j * d->k] = -d->factor[i + j * d->k];
    for (int64_t j = 0; j < d->k; j++) d->factor[j + j * d->k] -= (float)(d->side * d->theta);
    cblas_ssyrk(CblasColMajor, CblasLower, CblasNoTrans, k, p, (float)d->tau, d->v, k, 1.0f,
                d->factor, k);
    int info = LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', k, d->factor, k);
    return info == 0
               ? MIL_OK
               : error_set(err, MIL_NUMERIC,
                           "the deflated Gram matrix is not positive definite (row %d)", info);
}

/* ---- solving ---- */

struct inner {
    const struct deflated *d;
    int64_t p;
    float *rhs, *x, *step, *z; /* [k, p] */
    float *h;                  /* [d->p, p] */
};

/* x -= V (V^T x). */
static void project(const struct inner *in, float *x) {
    int k = (int)in->d->k, q = (int)in->d->p, p = (int)in->p;
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, q, p, k, 1.0f, in->d->v, k, x, k, 0.0f,
                in->h, q);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, p, q, -1.0f, in->d->v, k, in->h, q,
                1.0f, x, k);
}

/* x <- A^-1 x, off V. */
static void solve(const struct inner *in, float *x) {
    int k = (int)in->d->k, p = (int)in->p;
    cblas_strsm(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, k, p, 1.0f,
                in->d->factor, k, x, k);
    cblas_strsm(CblasColMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, k, p, 1.0f,
                in->d->factor, k, x, k);
    project(in, x);
}

/* Chebyshev's iteration for x + delta_i A^-1 x = rhs on the interval [low, high] of column i. */
static void chebyshev(const struct inner *in, const double *lambda) {
    const struct deflated *d = in->d;
    int64_t k = d->k;
    size_t bytes = (size_t)(k * in->p) * sizeof(float);
    memset(in->x, 0, bytes);
    memset(in->step, 0, bytes);
    memcpy(in->z, in->rhs, bytes); /* z: the residual */
    for (int n = 0; n < d->inner_steps; n++) {
        for (int64_t t = 0; t < in->p; t++) {
            double delta = d->side * (d->theta - d->c * lambda[t]);
            double a = 1 + delta / d->near, b = 1 + delta / d->far;
            double low = fmax(fmin(a, b), 0.05), high = fmax(fmax(a, b), low);
            double centre = (high + low) / 2, half = (high - low) / 2, alpha = 1 / centre, beta = 0;
            for (int i = 1; i <= n; i++) { /* the recurrence up to this step */
                beta = i == 1 ? half * half * alpha * alpha / 2 : half * half * alpha * alpha / 4;
                alpha = 1 / (centre - beta / alpha);
            }
            float *x = in->x + t * k, *step = in->step + t * k;
            const float *z = in->z + t * k;
            for (int64_t i = 0; i < k; i++) {
                step[i] = z[i] + (float)beta * step[i];
                x[i] += (float)alpha * step[i];
            }
        }
        if (n + 1 == d->inner_steps) break;
        memcpy(in->z, in->x, bytes);
        solve(in, in->z);
        for (int64_t t = 0; t < in->p; t++) {
            float delta = (float)(d->side * (d->theta - d->c * lambda[t]));
            float *z = in->z + t * k;
            const float *x = in->x + t * k, *rhs = in->rhs + t * k;
            for (int64_t i = 0; i < k; i++) z[i] = rhs[i] - x[i] - delta * z[i];
        }
    }
}

/* t += X_g ((X_g^T r) / (lambda_g - lambda)): the known pairs beside the refined ones. */
static enum mil_status add_guards(const struct deflated *d, const double *lambda, const double *r,
                                  double *t, int64_t p, struct mil_error *err) {
    int k = (int)d->k, g = (int)d->guards;
    if (g == 0) return MIL_OK;
    double *h = mem_alloc(MEM_SCRATCH, (size_t)(g * p), sizeof *h);
    if (!h) return error_nomem(err, (uint64_t)(g * p) * sizeof *h);
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, g, (int)p, k, 1.0, d->guard_x, k, r, k,
                0.0, h, g);
    for (int64_t j = 0; j < p; j++)
        for (int i = 0; i < g; i++) {
            double gap = d->guard_lambda[i] / d->c - lambda[j];
            double least = 1e-14 * (fabs(lambda[j]) + 1 / d->c);
            h[i + j * g] = fabs(gap) > least ? h[i + j * g] / gap : 0;
        }
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, (int)p, g, 1.0, d->guard_x, k, h, g,
                1.0, t, k);
    mem_free(h);
    return MIL_OK;
}

enum mil_status deflated_solve(void *ctx, const double *lambda, const double *r, double *t,
                               int64_t p, struct mil_error *err) {
    const struct deflated *d = ctx;
    size_t n = (size_t)(d->k * p);
    struct inner in = {.d = d, .p = p};
    float *block = mem_alloc(MEM_SCRATCH, 4 * n + (size_t)(d->p * p), sizeof *block);
    double *norm = mem_alloc(MEM_SCRATCH, (size_t)p, sizeof *norm);
    enum mil_status st = MIL_OK;
    if (!block || !norm) {
        st = error_nomem(err, 4 * n * sizeof *block);
        goto fail;
    }
    in.rhs = block;
    in.x = block + n;
    in.step = block + 2 * n;
    in.z = block + 3 * n;
    in.h = block + 4 * n;
    for (int64_t j = 0; j < p; j++) {
        norm[j] = cblas_dnrm2((int)d->k, r + j * d->k, 1);
        double by = norm[j] > 0 ? d->side / norm[j] : 0;
        for (int64_t i = 0; i < d->k; i++) in.rhs[i + j * d->k] = (float)(by * r[i + j * d->k]);
    }
    project(&in, in.rhs);
    solve(&in, in.rhs);
    chebyshev(&in, lambda);
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < d->k; i++)
            t[i + j * d->k] = norm[j] * d->c * (double)in.x[i + j * d->k];
    st = add_guards(d, lambda, r, t, p, err);
fail:
    mem_free(norm);
    mem_free(block);
    return st;
}

/* ---- the proof ---- */

enum { PROBES = 8, COLUMNS = 64, POWER_STEPS = 2, PROOF_SEED = 20250123 };

struct panel {
    const float *factor;
    double *out;
    int64_t k, first;
};

static void widen_panel(void *ctx, int64_t begin, int64_t end) {
    const struct panel *c = ctx;
    for (int64_t j = begin; j < end; j++)
        for (int64_t i = 0; i < c->k; i++)
            c->out[i + j * c->k] =
                i < c->first + j ? 0 : (double)c->factor[i + (c->first + j) * c->k];
}

/* z = L (L^T x), x and z [k, PROBES], in f64. */
static enum mil_status factor_product(const struct deflated *d, const double *x, double *z,
                                      struct mil_error *err) {
    int k = (int)d->k;
    double *panel = mem_alloc(MEM_SCRATCH, (size_t)(d->k * COLUMNS), sizeof *panel),
           h[COLUMNS * PROBES];
    if (!panel) return error_nomem(err, (uint64_t)(d->k * COLUMNS) * sizeof *panel);
    memset(z, 0, (size_t)(d->k * PROBES) * sizeof *z);
    for (int64_t j = 0; j < d->k; j += COLUMNS) {
        int cols = (int)(d->k - j < COLUMNS ? d->k - j : COLUMNS);
        struct panel c = {d->factor, panel, d->k, j};
        parallel_for(cols, 8, widen_panel, &c);
        cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, cols, PROBES, k - (int)j, 1.0,
                    panel + j, k, x + j, k, 0.0, h, cols);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k - (int)j, PROBES, cols, 1.0,
                    panel + j, k, h, cols, 1.0, z + j, k);
    }
    mem_free(panel);
    return MIL_OK;
}

/* z -= (side (c G - theta I) + tau V V^T) x; y [l, PROBES], g [k, PROBES], h [p, PROBES] scratch. */
static enum mil_status subtract_exact(const struct deflated *d, const double *x, double *z,
                                      double *y, double *g, struct mil_error *err) {
    int64_t n = d->k * PROBES;
    TRY(matrix_apply(d->w, x, PROBES, y, err));
    TRY(matrix_apply_t(d->w, y, PROBES, g, err));
    for (int64_t i = 0; i < n; i++) z[i] -= d->side * (d->c * g[i] - d->theta * x[i]);
    for (int64_t q = 0; q < d->p; q++)
        for (int64_t t = 0; t < PROBES; t++) {
            const float *v = d->v + q * d->k;
            double dot = 0;
            for (int64_t i = 0; i < d->k; i++) dot += (double)v[i] * x[i + t * d->k];
            dot *= d->tau;
            for (int64_t i = 0; i < d->k; i++) z[i + t * d->k] -= dot * (double)v[i];
        }
    return MIL_OK;
}

enum mil_status deflated_error(const struct deflated *d, double *out, struct mil_error *err) {
    size_t n = (size_t)(d->k * PROBES);
    double *x = mem_alloc(MEM_SCRATCH, 3 * n + (size_t)(long_side(d->w) * PROBES), sizeof *x);
    if (!x) return error_nomem(err, 3 * n * sizeof *x);
    double *z = x + n, *g = x + 2 * n, *y = x + 3 * n, worst = 0;
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < n; i++) x[i] = rng_normal(PROOF_SEED, rng_stream(RNG_SELECT, 0), 0, i);
    for (int step = 0; step < POWER_STEPS && st == MIL_OK; step++) {
        for (int t = 0; t < PROBES; t++)
            cblas_dscal((int)d->k, 1 / cblas_dnrm2((int)d->k, x + t * d->k, 1), x + t * d->k, 1);
        st = factor_product(d, x, z, err);
        if (st == MIL_OK) st = subtract_exact(d, x, z, y, g, err);
        worst = 0;
        for (int t = 0; t < PROBES; t++)
            worst = fmax(worst, cblas_dnrm2((int)d->k, z + t * d->k, 1));
        memcpy(x, z, n * sizeof *x);
    }
    *out = isfinite(worst) ? 2 * worst : INFINITY;
    mem_free(x);
    return st;
}
