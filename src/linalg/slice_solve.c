/* SPDX-License-Identifier: Apache-2.0 */
/* slice_solve.c - T_i = (G - lambda_i)^+ R_i from one factorisation A = G - shift, in f32.
 *
 * Along the known eigenvectors outside of the refined space the inverse is written down.  On the
 * complement of all known ones ||A^-1|| <= 1 / far, and with t_i = lambda_i - shift, |t_i| < far,
 *     (A - t_i) y = r   <=>   y = A^-1 r + t_i A^-1 y
 * is solved by Chebyshev's iteration on [-rho_i, rho_i], rho_i = |t_i| / far, which gains a factor
 * rho / (1 + sqrt(1 - rho^2)) a solve.  Columns go in the order of falling |t_i|, so that those near
 * the shift, which need few solves, leave the block early. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/threads.h"
#include "linalg/slice.h"

/* Error of a correction, relative: three Newton steps then go from 1e-5 to 1e-13. */
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
    int64_t *from;              /* [p]: which column of the caller's */
};

static void iteration_release(struct iteration *it) {
    mem_free(it->b);
    mem_free(it->y);
    mem_free(it->last);
    mem_free(it->work);
    mem_free(it->coef);
    mem_free(it->spare);
    mem_free(it->norm);
    mem_free(it->from);
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
    it->from = mem_alloc(MEM_SCRATCH, cols, sizeof *it->from);
    if (it->b && it->y && it->last && it->work && it->coef && it->spare && it->norm && it->from) {
        it->t = it->norm + p;
        it->weight = it->t + p;
        return MIL_OK;
    }
    iteration_release(it);
    return error_nomem(err, (4 * k + 2 * n) * cols * sizeof(float));
}

static void combine_columns(void *ctx, int64_t begin, int64_t end) {
    const struct iteration *it = ctx;
    for (int64_t j = begin; j < end; j++) {
        float t = (float)it->t[j], weight = (float)it->weight[j];
        for (int64_t i = j * it->k; i < (j + 1) * it->k; i++) {
            float last = it->last[i];
            it->last[i] = it->y[i];
            it->y[i] = weight * (it->b[i] + t * it->work[i] - last) + last;
        }
    }
}

/* One step on the first n columns. */
static void iterate(const struct slice_solver *s, struct iteration *it, int64_t n, bool second) {
    for (int64_t j = 0; j < n; j++) {
        double rho = fabs(it->t[j]) / s->far;
        it->weight[j] = 1 / (1 - rho * rho / (second ? 2 : 4 / it->weight[j]));
    }
    memcpy(it->work, it->y, (size_t)(it->k * n) * sizeof *it->work);
    ldlt_solve(s->f, it->work, n);
    project_out(s, it->work, n, it->spare);
    parallel_for(n, 4, combine_columns, it);
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

/* Column order by falling |t|, and t itself, limited to 0.9 far: an outlier among the estimates must
 * not spoil the rest. */
static void sort_columns(const struct slice_solver *s, const double *lambda, struct iteration *it) {
    double limit = 0.9 * s->far;
    for (int64_t j = 0; j < it->p; j++) {
        double t = fmin(fmax(lambda[j] * s->s2 - s->shift, -limit), limit);
        int64_t at = j;
        for (; at > 0 && fabs(it->t[at - 1]) < fabs(t); at--) {
            it->t[at] = it->t[at - 1];
            it->from[at] = it->from[at - 1];
        }
        it->t[at] = t;
        it->from[at] = j;
    }
}

/* y = columns of r in their order, scaled to length 1. */
static void load_columns(struct iteration *it, const double *r) {
    for (int64_t j = 0; j < it->p; j++) {
        const double *from = r + it->from[j] * it->k;
        it->norm[j] = cblas_dnrm2((int)it->k, from, 1);
        double by = it->norm[j] > 0 ? 1 / it->norm[j] : 0;
        for (int64_t i = 0; i < it->k; i++) it->y[j * it->k + i] = (float)(from[i] * by);
    }
}

static void store_columns(const struct iteration *it, double s2, double *t) {
    for (int64_t j = 0; j < it->p; j++)
        for (int64_t i = 0; i < it->k; i++)
            t[it->from[j] * it->k + i] = (double)it->y[j * it->k + i] * it->norm[j] * s2;
}

enum mil_status slice_solve(void *ctx, const double *lambda, const double *r, double *t, int64_t p,
                            struct mil_error *err) {
    const struct slice_solver *s = ctx;
    struct iteration it;
    TRY(iteration_new(s, p, &it, err));
    sort_columns(s, lambda, &it);
    load_columns(&it, r);
    project_out(s, it.y, p, it.coef);
    ldlt_solve(s->f, it.y, p);
    project_out(s, it.y, p, it.spare);
    memcpy(it.b, it.y, (size_t)(it.k * p) * sizeof *it.b);
    int64_t active = p;
    for (int i = 1; i < SOLVES_MAX; i++) {
        while (active > 0 && solves_for(fabs(it.t[active - 1]) / s->far) <= i) active--;
        if (active == 0) break;
        iterate(s, &it, active, i == 1);
    }
    add_known(s, &it);
    store_columns(&it, s->s2, t);
    iteration_release(&it);
    return MIL_OK;
}
