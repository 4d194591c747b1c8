/* SPDX-License-Identifier: Apache-2.0 */
/* deflated.c - the deflated Cholesky factor: solver of the refinement and proof of completeness.
 *
 *     A = side (C - theta I) + tau V V^T
 * With V near the space of the p wanted eigenvalues and theta just inside the remaining ones, A is
 * positive definite, and on the complement of V it is side (C - theta I).  A correction solves
 *     side (C - lambda_i I) x = r_i                       on that complement
 * by Chebyshev's iteration on  (I + delta_i B) x = b_i  with one of two operators B:
 *     A^-1            delta_i = side (theta - lambda_i)   b_i = B r_i            good near theta
 *     (C + mu I)^-1   delta_i = -(lambda_i + mu)          b_i = B r_i            good far below
 *     C               delta_i = -1 / lambda_i             b_i = r_i / lambda_i   good far above
 * (the second for the bottom, the third for the top), whichever gives column i the narrower
 * spectrum.  Each step costs two triangular solves or a product in f32; the right-hand sides are
 * scaled to norm 1, and what f32 leaves is corrected by the next Newton step, which measures in
 * f64. */
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

/* p columns of one operator B; off V the spectrum of B lies between far and near. */
struct inner {
    const struct deflated *d;
    const struct triangle *inverse; /* B = (L L^T)^-1 */
    const float *product;           /* or, inverse == NULL, B itself */
    double near, far;
    int64_t p;
    const double *delta;               /* [p] */
    float *rhs, *x, *step, *z, *spare; /* [k, p] and more; rhs: r_i on entry */
    int steps;
    float *h; /* [d->p, p] */
};

/* x -= V (V^T x). */
static void project(const struct inner *in, float *x) {
    int k = (int)in->d->k, q = (int)in->d->p, p = (int)in->p;
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, q, p, k, 1.0f, in->d->v, k, x, k, 0.0f,
                in->h, q);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, p, q, -1.0f, in->d->v, k, in->h, q,
                1.0f, x, k);
}

/* z <- B z, off V. */
static void apply(const struct inner *in, float *z) {
    int k = (int)in->d->k, p = (int)in->p;
    if (!in->inverse) {
        memcpy(in->spare, z, (size_t)k * (size_t)p * sizeof *z);
        cblas_ssymm(CblasColMajor, CblasLeft, CblasLower, k, p, 1.0f, in->product, k, in->spare, k,
                    0.0f, z, k);
    } else {
        triangle_solve(in->inverse, z, in->p, in->spare);
    }
    project(in, z);
}

/* Coefficients of step n of Chebyshev's iteration on [low, high]: x += alpha s, s = z + beta s. */
static void coefficients(double low, double high, int n, double *alpha, double *beta) {
    double centre = (high + low) / 2, half = (high - low) / 2;
    *alpha = 1 / centre;
    *beta = 0;
    for (int i = 1; i <= n; i++) {
        *beta = half * half * *alpha * *alpha / (i == 1 ? 2 : 4);
        *alpha = 1 / (centre - *beta / *alpha);
    }
}

static void advance(const struct inner *in, int n) {
    int64_t k = in->d->k;
    for (int64_t t = 0; t < in->p; t++) {
        double a = 1 + in->delta[t] * in->near, b = 1 + in->delta[t] * in->far, alpha, beta;
        double low = fmax(fmin(a, b), 0.02), high = fmax(fmax(a, b), low);
        coefficients(low, high, n, &alpha, &beta);
        float *x = in->x + t * k, *step = in->step + t * k;
        const float *z = in->z + t * k;
        for (int64_t i = 0; i < k; i++) {
            step[i] = z[i] + (float)beta * step[i];
            x[i] += (float)alpha * step[i];
        }
    }
}

/* z = rhs - (I + delta B) x. */
static void measure(const struct inner *in) {
    int64_t k = in->d->k;
    memcpy(in->z, in->x, (size_t)(k * in->p) * sizeof *in->z);
    apply(in, in->z);
    for (int64_t t = 0; t < in->p; t++) {
        float delta = (float)in->delta[t], *z = in->z + t * k;
        const float *x = in->x + t * k, *rhs = in->rhs + t * k;
        for (int64_t i = 0; i < k; i++) z[i] = rhs[i] - x[i] - delta * z[i];
    }
}

/* rhs becomes b_i. */
static void right_hand_sides(const struct inner *in) {
    int64_t k = in->d->k;
    project(in, in->rhs);
    if (in->inverse) {
        apply(in, in->rhs);
        return;
    }
    for (int64_t t = 0; t < in->p; t++)
        for (int64_t i = t * k; i < (t + 1) * k; i++) in->rhs[i] *= -(float)in->delta[t];
}

static void chebyshev(const struct inner *in) {
    size_t bytes = (size_t)(in->d->k * in->p) * sizeof(float);
    right_hand_sides(in);
    memset(in->x, 0, bytes);
    memset(in->step, 0, bytes);
    memcpy(in->z, in->rhs, bytes);
    for (int n = 0; n < in->steps; n++) {
        if (n > 0) measure(in);
        advance(in, n);
    }
}

/* The ends of B's spectrum off V, and delta for lambda (in units of C). */
struct reach {
    double near, far;
};

static struct reach reach_of(const struct deflated *d, bool other) {
    if (!other && d->side > 0)
        return (struct reach){1 / (d->outer - d->theta), 1 / (d->top - d->theta)};
    if (!other) return (struct reach){1 / (d->theta - d->outer), 1 / d->theta};
    if (d->side > 0) return (struct reach){1 / (d->outer + d->mu), 1 / (d->top + d->mu)};
    return (struct reach){d->outer, 0};
}

static double delta_of(const struct deflated *d, bool other, double lambda) {
    if (!other) return d->side * (d->theta - lambda);
    return d->side > 0 ? -(lambda + d->mu) : -1 / lambda;
}

/* Condition of I + delta B. */
static double condition(const struct deflated *d, bool other, double lambda) {
    struct reach reach = reach_of(d, other);
    double delta = delta_of(d, other, lambda);
    double a = 1 + delta * reach.near, b = 1 + delta * reach.far;
    return fmin(a, b) > 0 ? fmax(a, b) / fmin(a, b) : INFINITY;
}

/* Solve for columns [first, end) with A or with the other operator. */
static void solve_columns(const struct inner *all, const double *lambda, double *delta,
                          int64_t first, int64_t end, bool other) {
    const struct deflated *d = all->d;
    struct inner in = *all;
    struct reach reach = reach_of(d, other);
    size_t skip = (size_t)(first * d->k);
    in.p = end - first;
    in.rhs += skip;
    in.x += skip;
    in.step += skip;
    in.z += skip;
    in.delta = delta + first;
    in.inverse = !other ? &d->packed : d->below;
    in.product = d->gram;
    in.near = reach.near;
    in.far = reach.far;
    for (int64_t t = first; t < end; t++) delta[t] = delta_of(d, other, d->c * lambda[t]);
    if (in.p > 0) chebyshev(&in);
}

/* The columns descend in lambda: those that the other operator serves better stand last at the
 * bottom, first at the top.  Where they begin or end. */
static int64_t border(const struct deflated *d, const double *lambda, int64_t p) {
    int64_t i = 0;
    while (i < p) {
        bool other = condition(d, true, d->c * lambda[i]) < condition(d, false, d->c * lambda[i]);
        if (other == (d->side > 0)) break;
        i++;
    }
    return i;
}

/* ---- the guards ----
 *
 * On [X_g, the rest] G - lambda is [[Lambda_g - lambda, E^T], [E, H - lambda]], E = X_g's residuals:
 * one symmetric Gauss-Seidel sweep over the two parts.  Without E the guards' own errors would come
 * back in every other Newton step. */

/* h [guards, p] = (Lambda_g - lambda_j)^-1 h. */
static void divide_by_gaps(const struct deflated *d, const double *lambda, double *h, int64_t p) {
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < d->guards; i++) {
            double gap = d->guard_sigma[i] * d->guard_sigma[i] - lambda[j];
            double least = 1e-14 * (fabs(lambda[j]) + 1 / d->c);
            h[i + j * d->guards] = fabs(gap) > least ? h[i + j * d->guards] / gap : 0;
        }
}

/* out = alpha op(a) b + beta out over k, guards and p; a [k, guards]. */
static void guard_product(const struct deflated *d, bool onto, double alpha, const double *a,
                          const double *b, double beta, double *out, int64_t p) {
    int k = (int)d->k, g = (int)d->guards;
    cblas_dgemm(CblasColMajor, onto ? CblasTrans : CblasNoTrans, CblasNoTrans, onto ? g : k, (int)p,
                onto ? k : g, alpha, a, k, b, onto ? k : g, beta, out, onto ? g : k);
}

/* h times s_g by rows: E = (G - s_g^2) x_g = s_g (H^T y_g - s_g x_g). */
static void scale_rows(const struct deflated *d, double *h, int64_t p) {
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < d->guards; i++) h[i + j * d->guards] *= d->guard_sigma[i];
}

/* ---- one correction ----
 *
 * A residual above `rough` s_0 is that of left vectors computed as H x / s: error along large values,
 * which one application of B removes; the rest is small and left to the next step. */

static const double rough = 1e-5;
enum { FEW_STEPS = 2 };

static double largest(const double *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, x[i]);
    return most;
}

/* t = side c (what the columns' solver makes of side r / ||r||), guards aside. */
static void solve_rest(struct inner *in, const double *lambda, const double *r, double *norm,
                       double *delta, double *t) {
    const struct deflated *d = in->d;
    for (int64_t j = 0; j < in->p; j++) {
        norm[j] = cblas_dnrm2((int)d->k, r + j * d->k, 1);
        double by = norm[j] > 0 ? d->side / norm[j] : 0;
        for (int64_t i = 0; i < d->k; i++) in->rhs[i + j * d->k] = (float)(by * r[i + j * d->k]);
    }
    in->steps = largest(norm, in->p) > rough * sqrt(d->top / d->c) ? FEW_STEPS : d->inner_steps;
    int64_t at = border(d, lambda, in->p);
    solve_columns(in, lambda, delta, 0, at, d->side < 0);
    solve_columns(in, lambda, delta, at, in->p, d->side > 0);
    for (int64_t j = 0; j < in->p; j++)
        for (int64_t i = 0; i < d->k; i++)
            t[i + j * d->k] = norm[j] * d->c * (double)in->x[i + j * d->k];
}

enum mil_status deflated_solve(void *ctx, const double *lambda, const double *r, double *t,
                               int64_t p, struct mil_error *err) {
    const struct deflated *d = ctx;
    size_t n = (size_t)(d->k * p), g = (size_t)(d->guards * p);
    size_t spare =
        triangle_spare(&d->packed, p); /* >= n, and holds for parts of the columns, too */
    struct inner in = {.d = d, .p = p};
    float *block = mem_alloc(MEM_SCRATCH, 4 * n + spare + (size_t)(d->p * p), sizeof *block);
    double *wide = mem_alloc(MEM_SCRATCH, n + 2 * (size_t)p + 2 * g, sizeof *wide);
    enum mil_status st = MIL_OK;
    if (!block || !wide) {
        st = error_nomem(err, (4 * n + spare) * sizeof *block);
        goto fail;
    }
    in.rhs = block;
    in.x = block + n;
    in.step = block + 2 * n;
    in.z = block + 3 * n;
    in.spare = block + 4 * n;
    in.h = block + 4 * n + spare;
    double *rest = wide, *norm = wide + n, *alpha = norm + 2 * p, *h = alpha + g;
    memcpy(rest, r, n * sizeof *rest);
    if (g > 0) { /* alpha = (Lambda_g - lambda)^-1 X_g^T r;  r - E alpha */
        guard_product(d, true, 1.0, d->guard_x, r, 0.0, alpha, p);
        divide_by_gaps(d, lambda, alpha, p);
        memcpy(h, alpha, g * sizeof *h);
        scale_rows(d, h, p);
        guard_product(d, false, -1.0, d->guard_residual, h, 1.0, rest, p);
    }
    solve_rest(&in, lambda, rest, norm, norm + p, t);
    if (g > 0) { /* alpha -= (Lambda_g - lambda)^-1 E^T t */
        guard_product(d, true, -1.0, d->guard_residual, t, 0.0, h, p);
        scale_rows(d, h, p);
        divide_by_gaps(d, lambda, h, p);
        for (size_t i = 0; i < g; i++) alpha[i] += h[i];
        guard_product(d, false, 1.0, d->guard_x, alpha, 1.0, t, p);
    }
fail:
    mem_free(wide);
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
