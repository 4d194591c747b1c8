/* SPDX-License-Identifier: Apache-2.0 */
/* refine.c - Newton's method on a block of singular pairs, in f64.
 *
 * Invariant between steps: X [k, p] and Y [l, p] have orthonormal columns and H X = Y Sigma, so all
 * of the error shows in R = H^T Y - X Sigma, orthogonal to X.  To first order, with a_j and b_j the
 * components of x_i and y_i along the j-th singular pair outside of the block,
 *     R_j = s_j b_j - s_i a_j,   0 = s_j a_j - s_i b_j
 *     a_j = s_i R_j / (s_j^2 - s_i^2),   b_j = s_j R_j / (s_j^2 - s_i^2),
 * hence with T_i = (G - s_i^2)^+ R_i:  x_i <- x_i - s_i T_i,  y_i <- y_i - H T_i.  Y is corrected,
 * never recomputed: H x_i / s_i has the error eps s_0 / s_i, the correction one of eps ||T_i|| s_0.
 * That is why triplets far below s_0 sqrt(eps) come out with residuals of some eps s_0.  A zero
 * singular value needs no case of its own: there the correction is the projection of y_i onto the
 * complement of the range of H.
 *
 * After a correction H X = Y Sigma still holds, the columns are a little off orthonormal, and a
 * Rayleigh-Ritz step restores the invariant:  X = Qx Rx, Y = Qy Ry, H Qx = Qy (Ry Sigma Rx^-1).
 * The small SVD is backward stable, which bounds both residuals by eps times the block's largest
 * value; nothing here needs more. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/internal.h"

/* Scratch.  a, b: X and Y side by side in the Rayleigh-Ritz step. */
struct scratch {
    int k, l, p;
    double *r, *t;             /* [k, p] */
    double *ht;                /* [l, p] */
    double *rx, *ry;           /* [p, p] upper triangular factors */
    double *small, *left, *zt; /* [p, p] the small matrix and its singular vectors */
    double *work;
    lapack_int *iwork;
    lapack_int lwork;
};

static void scratch_release(struct scratch *s) {
    mem_free(s->r);
    mem_free(s->t);
    mem_free(s->ht);
    mem_free(s->rx);
    mem_free(s->ry);
    mem_free(s->small);
    mem_free(s->left);
    mem_free(s->zt);
    mem_free(s->work);
    mem_free(s->iwork);
}

/* LAPACK's workspace for the block factorisations and the small SVD. */
static lapack_int workspace(const struct scratch *s) {
    double none = 0, want[3] = {0, 0, 0};
    lapack_int p = s->p, none_int = 0;
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', p, p, &none, p, &none, &none, p, &none, p, &want[0],
                        -1, &none_int);
    LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, s->l, p, &none, s->l, &none, &want[1], -1);
    LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, s->l, p, p, &none, s->l, &none, &want[2], -1);
    return (lapack_int)fmax(want[0], fmax(want[1], want[2]));
}

static enum mil_status scratch_new(const struct refine *f, struct scratch *s,
                                   struct mil_error *err) {
    size_t k = (size_t)short_side(f->w), l = (size_t)long_side(f->w), p = (size_t)f->p;
    *s = (struct scratch){.k = (int)k, .l = (int)l, .p = (int)p};
    s->lwork = workspace(s);
    s->r = mem_alloc(MEM_SCRATCH, k * p, sizeof *s->r);
    s->t = mem_alloc(MEM_SCRATCH, k * p, sizeof *s->t);
    s->ht = mem_alloc(MEM_SCRATCH, l * p, sizeof *s->ht);
    s->rx = mem_alloc(MEM_SCRATCH, p * p, sizeof *s->rx);
    s->ry = mem_alloc(MEM_SCRATCH, p * p, sizeof *s->ry);
    s->small = mem_alloc(MEM_SCRATCH, p * p, sizeof *s->small);
    s->left = mem_alloc(MEM_SCRATCH, p * p, sizeof *s->left);
    s->zt = mem_alloc(MEM_SCRATCH, p * p, sizeof *s->zt);
    /* + p: the reflectors' scales of dgeqrf stand in front of its workspace */
    s->work = mem_alloc(MEM_SCRATCH, (size_t)s->lwork + p, sizeof *s->work);
    s->iwork = mem_alloc(MEM_SCRATCH, p * 8, sizeof *s->iwork);
    if (s->r && s->t && s->ht && s->rx && s->ry && s->small && s->left && s->zt && s->work &&
        s->iwork)
        return MIL_OK;
    scratch_release(s);
    return error_nomem(err, (uint64_t)((2 * k + l + 5 * p) * p) * sizeof(double));
}

/* ---- A = Q R ---- */

/* c <- D^-1 c D^-1, D^2 the diagonal of c (upper triangle), which goes into d.  True where c is then
 * diagonally dominant by a margin: its condition is at most 3, and Cholesky's Q is orthonormal to
 * a few eps. */
static bool equilibrate(double *c, int p, double *d) {
    for (int j = 0; j < p; j++) {
        if (!(c[j + j * p] > 0)) return false;
        d[j] = sqrt(c[j + j * p]);
    }
    bool dominant = true;
    for (int j = 0; j < p; j++)
        for (int i = 0; i <= j; i++) c[i + j * p] = c[i + j * p] / d[i] / d[j];
    for (int i = 0; i < p; i++) {
        double sum = 0;
        for (int j = 0; j < i; j++) sum += fabs(c[j + i * p]);
        for (int j = i + 1; j < p; j++) sum += fabs(c[i + j * p]);
        dominant = dominant && sum <= 0.5;
    }
    return dominant;
}

/* r: the upper triangular factor of a [rows, p], zeros below.  *kept: a was kept, Q = a r^-1 is left
 * to the caller; otherwise (Householder) a holds Q. */
static bool factor(struct scratch *s, double *a, int rows, double *r, bool *kept) {
    int p = s->p;
    double *d = s->work, *work = s->work + p;
    memset(r, 0, (size_t)p * (size_t)p * sizeof *r);
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, p, rows, 1.0, a, rows, 0.0, r, p);
    *kept = equilibrate(r, p, d) && LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', p, r, p) == 0;
    if (*kept) {
        for (int j = 0; j < p; j++)
            for (int i = 0; i <= j; i++) r[i + j * p] *= d[j];
        return true;
    }
    if (LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, rows, p, a, rows, d, work, s->lwork) != 0)
        return false;
    for (int j = 0; j < p; j++)
        for (int i = 0; i < p; i++) r[i + j * p] = i <= j ? a[i + (size_t)j * (size_t)rows] : 0;
    return LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, rows, p, p, a, rows, d, work, s->lwork) == 0;
}

/* a <- Q m, Q = a r^-1 or a; m [p, p] is destroyed, spare [rows, p]. */
static void rotate(double *a, int rows, const double *r, bool kept, double *m, double *spare,
                   int p) {
    if (kept)
        cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, p, p, 1.0, r,
                    p, m, p);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, p, p, 1.0, a, rows, m, p, 0.0,
                spare, rows);
    memcpy(a, spare, (size_t)rows * (size_t)p * sizeof *a);
}

/* ---- the steps ---- */

static enum mil_status failed(const char *what, struct mil_error *err) {
    return error_set(err, MIL_NUMERIC, "refining singular triplets: %s failed", what);
}

/* From H X = Y D, D = diag(scale) (NULL: the identity), to the invariant. */
static enum mil_status rayleigh_ritz(struct refine *f, struct scratch *s, const double *scale,
                                     struct mil_error *err) {
    int p = s->p;
    bool x_kept, y_kept;
    if (!factor(s, f->x, s->k, s->rx, &x_kept) || !factor(s, f->y, s->l, s->ry, &y_kept))
        return failed("an orthogonalisation", err);
    for (int j = 0; j < p; j++) {
        if (s->rx[j + j * p] == 0) return failed("a dependent start", err);
        for (int i = 0; i < p; i++)
            s->small[i + j * p] = s->ry[i + j * p] * (scale ? scale[j] : 1.0);
    }
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, p, p, 1.0, s->rx,
                p, s->small, p);
    if (LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', p, p, s->small, p, f->sigma, s->left, p, s->zt,
                            p, s->work, s->lwork, s->iwork) != 0)
        return failed("the small SVD", err);
    for (int j = 0; j < p; j++) /* z = zt^T */
        for (int i = 0; i < p; i++) s->small[i + j * p] = s->zt[j + i * p];
    rotate(f->x, s->k, s->rx, x_kept, s->small, s->t, p);
    rotate(f->y, s->l, s->ry, y_kept, s->left, s->ht, p);
    return MIL_OK;
}

/* The largest norm of the columns of R over scale. */
static void largest_residual(struct refine *f, const struct scratch *s) {
    double worst = 0;
    for (int t = 0; t < s->p; t++) {
        double norm = cblas_dnrm2(s->k, s->r + (size_t)t * (size_t)s->k, 1);
        if (norm > worst || isnan(norm)) worst = norm;
        if (isnan(worst)) break;
    }
    f->residual = f->scale > 0 ? worst / f->scale : worst;
}

/* R = H^T Y - X Sigma. */
static enum mil_status residual(struct refine *f, struct scratch *s, struct mil_error *err) {
    TRY(matrix_apply_t(f->w, f->y, f->p, s->r, err));
    for (int t = 0; t < s->p; t++)
        cblas_daxpy(s->k, -f->sigma[t], f->x + (size_t)t * (size_t)s->k, 1,
                    s->r + (size_t)t * (size_t)s->k, 1);
    largest_residual(f, s);
    return MIL_OK;
}

/* One Newton step.  First order holds only while the corrections are small: a pair whose correction
 * is not (a neighbour outside of the block at the very same value) keeps its place.  y_i alone may
 * be wholly wrong where s_i is rounding error or zero, and ||H T_i|| <= 1 then is exact. */
static enum mil_status correct(struct refine *f, struct scratch *s, struct mil_error *err) {
    double lambda_scratch[64], *lambda = lambda_scratch;
    enum mil_status st = MIL_OK;
    if (s->p > 64) lambda = mem_alloc(MEM_SCRATCH, (size_t)s->p, sizeof *lambda);
    if (!lambda) return error_nomem(err, (uint64_t)s->p * sizeof *lambda);
    for (int t = 0; t < s->p; t++) lambda[t] = f->sigma[t] * f->sigma[t];
    TRY_GOTO(f->solve(f->ctx, lambda, s->r, s->t, f->p, err));
    TRY_GOTO(matrix_apply(f->w, s->t, f->p, s->ht, err));
    for (int t = 0; t < s->p; t++) {
        const double *dx = s->t + (size_t)t * (size_t)s->k, *dy = s->ht + (size_t)t * (size_t)s->l;
        if (!(f->sigma[t] * cblas_dnrm2(s->k, dx, 1) <= 0.3 && cblas_dnrm2(s->l, dy, 1) <= 1.5))
            continue;
        cblas_daxpy(s->k, -f->sigma[t], dx, 1, f->x + (size_t)t * (size_t)s->k, 1);
        cblas_daxpy(s->l, -1.0, dy, 1, f->y + (size_t)t * (size_t)s->l, 1);
    }
    memcpy(lambda, f->sigma, (size_t)s->p * sizeof *lambda);
    st = rayleigh_ritz(f, s, lambda, err);
fail:
    if (lambda != lambda_scratch) mem_free(lambda);
    return st;
}

static enum mil_status first_pairs(struct refine *f, struct scratch *s, struct mil_error *err) {
    if (f->started) {
        memcpy(s->r, f->residuals, (size_t)s->k * (size_t)s->p * sizeof *s->r);
        largest_residual(f, s);
        return MIL_OK;
    }
    TRY(matrix_apply(f->w, f->x, f->p, f->y, err));
    TRY(rayleigh_ritz(f, s, NULL, err));
    return residual(f, s, err);
}

enum mil_status refine_pairs(struct refine *f, struct mil_error *err) {
    struct scratch s;
    enum mil_status st;
    TRY(scratch_new(f, &s, err));
    f->steps = 0;
    TRY_GOTO(first_pairs(f, &s, err));
    double last = INFINITY;
    while (f->residual > f->target && f->residual < 0.5 * last && f->steps < f->max_steps) {
        last = f->residual;
        TRY_GOTO(correct(f, &s, err));
        TRY_GOTO(residual(f, &s, err));
        f->steps++;
    }
    if (f->residuals) memcpy(f->residuals, s.r, (size_t)s.k * (size_t)s.p * sizeof *s.r);
    if (!isfinite(f->residual)) st = failed("a product", err);
fail:
    scratch_release(&s);
    return st;
}
