/* SPDX-License-Identifier: Apache-2.0 */
/* slice_solve.c - T_i = (G - lambda_i)^+ R_i from one factorisation A = G - shift, in f32.
 *
 * Along the known eigenvectors outside of the refined space the inverse is written down.  On the
 * complement of all known ones ||A^-1|| <= 1 / far, and with t_i = lambda_i - shift, |t_i| < far,
 *     (A - t_i) y = r   <=>   y = A^-1 r + t_i A^-1 y
 * is solved by Chebyshev's iteration on [-rho_i, rho_i], rho_i = |t_i| / far, which gains a factor
 * rho / (1 + sqrt(1 - rho^2)) a solve.  A few per cent are enough: the refinement repeats. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/threads.h"
#include "linalg/slice.h"

static const double enough = 0.003;
enum { SOLVES_MAX = 8 };

/* x -= Z Z^T x, x [k, p]; coef [n, p] = Z^T x. */
static void project_out(const struct slice_solver *s, float *x, int64_t p, float *coef) {
    int k = (int)s->f->k, n = (int)s->n;
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, n, (int)p, k, 1.0f, s->z, k, x, k, 0.0f,
                coef, n);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, (int)p, n, -1.0f, s->z, k, coef, n,
                1.0f, x, k);
}

/* Columns of r, scaled to length 1, in f32. */
static void normalised(const double *r, int64_t k, int64_t p, float *x, double *norm) {
    for (int64_t j = 0; j < p; j++) {
        norm[j] = cblas_dnrm2((int)k, r + j * k, 1);
        double by = norm[j] > 0 ? 1 / norm[j] : 0;
        for (int64_t i = 0; i < k; i++) x[j * k + i] = (float)(r[j * k + i] * by);
    }
}

/* Solves of Chebyshev's iteration that reach `enough`. */
static int solves_for(double rho) {
    double gain = rho / (1 + sqrt(1 - rho * rho)), error = rho;
    int n = 1;
    while (error > enough && n < SOLVES_MAX) {
        error *= gain;
        n++;
    }
    return n;
}

/* Chebyshev's iterates: y_0 = 0, y_1 = b = A^-1 r,
 *     y_{n+1} = weight (b + t A^-1 y_n - y_{n-1}) + y_{n-1}. */
struct iteration {
    int64_t k, p;
    float *b, *y, *last, *work; /* [k, p] */
    float *coef;                /* [n, p]: R in the known vectors */
    float *spare;               /* [n, p] */
    double *norm, *t, *weight;  /* [p] */
};

static void iteration_release(struct iteration *it) {
    mem_free(it->b);
    mem_free(it->y);
    mem_free(it->last);
    mem_free(it->work);
    mem_free(it->coef);
    mem_free(it->spare);
    mem_free(it->norm);
}

static enum mil_status iteration_new(const struct slice_solver *s, int64_t p, struct iteration *it,
                                     struct mil_error *err) {
    size_t k = (size_t)s->f->k, n = (size_t)s->n, cols = (size_t)p;
    *it = (struct iteration){.k = s->f->k, .p = p};
    it->b = mem_alloc(MEM_SCRATCH, k * cols, sizeof *it->b);
    it->y = mem_alloc(MEM_SCRATCH, k * cols, sizeof *it->y);
    it->last = mem_calloc(MEM_SCRATCH, k * cols, sizeof *it->last);
    it->work = mem_alloc(MEM_SCRATCH, k * cols, sizeof *it->work);
    it->coef = mem_alloc(MEM_SCRATCH, n * cols, sizeof *it->coef);
    it->spare = mem_alloc(MEM_SCRATCH, n * cols, sizeof *it->spare);
    it->norm = mem_alloc(MEM_SCRATCH, 3 * cols, sizeof *it->norm);
    if (it->b && it->y && it->last && it->work && it->coef && it->spare && it->norm) {
        it->t = it->norm + p;
        it->weight = it->t + p;
        return MIL_OK;
    }
    iteration_release(it);
    return error_nomem(err, (4 * k + 2 * n) * cols * sizeof(float));
}

struct combine {
    const struct iteration *it;
};

static void combine_columns(void *ctx, int64_t begin, int64_t end) {
    const struct iteration *it = ((const struct combine *)ctx)->it;
    for (int64_t j = begin; j < end; j++) {
        float t = (float)it->t[j], weight = (float)it->weight[j];
        for (int64_t i = j * it->k; i < (j + 1) * it->k; i++) {
            float last = it->last[i];
            it->work[i] = weight * (it->b[i] + t * it->work[i] - last) + last;
        }
    }
}

static void iterate(const struct slice_solver *s, struct iteration *it, bool second) {
    for (int64_t j = 0; j < it->p; j++) {
        double rho = fabs(it->t[j]) / s->far;
        it->weight[j] = 1 / (1 - rho * rho / (second ? 2 : 4 / it->weight[j]));
    }
    memcpy(it->work, it->y, (size_t)(it->k * it->p) * sizeof *it->work);
    ldlt_solve(s->f, it->work, it->p);
    project_out(s, it->work, it->p, it->spare);
    struct combine c = {it};
    parallel_for(it->p, 4, combine_columns, &c);
    float *free_block = it->last;
    it->last = it->y;
    it->y = it->work;
    it->work = free_block;
}

/* y += the part along the known vectors that are not being refined. */
static void add_known(const struct slice_solver *s, struct iteration *it) {
    int k = (int)it->k, p = (int)it->p, above = (int)(s->own + s->p);
    for (int64_t j = 0; j < it->p; j++)
        for (int64_t i = 0; i < s->n; i++) {
            double gap = s->value[i] - s->shift - it->t[j];
            float *c = &it->coef[j * s->n + i];
            bool ours = i >= s->own && i < s->own + s->p;
            *c = ours || gap == 0 ? 0.0f : (float)((double)*c / gap);
        }
    if (s->own > 0)
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, p, (int)s->own, 1.0f, s->z, k,
                    it->coef, (int)s->n, 1.0f, it->y, k);
    if (above < s->n)
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, p, (int)s->n - above, 1.0f,
                    s->z + above * it->k, k, it->coef + above, (int)s->n, 1.0f, it->y, k);
}

enum mil_status slice_solve(void *ctx, const double *lambda, const double *r, double *t, int64_t p,
                            struct mil_error *err) {
    const struct slice_solver *s = ctx;
    struct iteration it;
    double rho = 0;
    TRY(iteration_new(s, p, &it, err));
    for (int64_t j = 0; j < p; j++) {
        it.t[j] = lambda[j] * s->s2 - s->shift;
        double limit = 0.9 * s->far; /* an outlier among the estimates must not spoil the rest */
        it.t[j] = fmin(fmax(it.t[j], -limit), limit);
        rho = fmax(rho, fabs(it.t[j]) / s->far);
    }
    normalised(r, it.k, p, it.y, it.norm);
    project_out(s, it.y, p, it.coef);
    ldlt_solve(s->f, it.y, p);
    project_out(s, it.y, p, it.spare);
    memcpy(it.b, it.y, (size_t)(it.k * p) * sizeof *it.b);
    int solves = solves_for(rho);
    for (int i = 1; i < solves; i++) iterate(s, &it, i == 1);
    add_known(s, &it);
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = j * it.k; i < (j + 1) * it.k; i++)
            t[i] = (double)it.y[i] * it.norm[j] * s->s2;
    iteration_release(&it);
    return MIL_OK;
}
