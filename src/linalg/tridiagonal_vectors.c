/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal_vectors.c - inverse iteration and regularised solves on a band matrix.
 *
 * Inverse iteration (Wilkinson; LAPACK's dstein is the reference) with an eigenvalue right to some
 * eps norm converges in two solves from a random start.  Values that coincide to 1e-8 norm get
 * vectors that may be dependent; those are orthogonalised among themselves, and once more after a
 * third solve.  What
 * is left at any greater distance is an overlap of eps / 1e-8, which the Rayleigh-Ritz step that
 * follows removes.
 *
 * The regularised inverse is the real part of one complex solve:
 *     Re 1 / (x - i delta) = x / (x^2 + delta^2),
 * so no eigenvalue needs to be told apart from the shift. */
#include "linalg/tridiagonal_vectors.h"

#include <cblas.h>
#include <complex.h>
#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/mem.h"
#include "core/threads.h"

enum { CHUNK = 4 };
static const double close_by = 1e-8;

/* Numbers of scratch a thread: the bands of an LU factorisation with row exchanges. */
static size_t factor_size(const struct band_matrix *t) {
    return (size_t)t->k * (size_t)(t->kd == 1 ? 4 : 3 * t->kd + 1);
}

/* ---- inverse iteration ---- */

struct inverse {
    const struct band_matrix *t;
    const double *lambda;
    double *z, *scratch; /* factor_size numbers a thread */
    lapack_int *pivots;  /* k a thread */
    bool start;          /* two solves from a random start; otherwise one, from z */
};

/* Uniform in [-1, 1), a hash of (column, row): Vigna's splitmix64 finaliser. */
static double hashed(uint64_t column, uint64_t row) {
    uint64_t x = (column << 32) + row + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-52 - 1.0;
}

/* A pivot of rounding size kept away from zero. */
static double pivot(const struct band_matrix *t, double d) {
    double least = 1e-3 * 0x1p-52 * t->norm;
    if (fabs(d) > least) return d;
    return d < 0 ? -least : least;
}

static void normalise(int k, double *z) {
    double top = fabs(z[cblas_idamax(k, z, 1)]);
    cblas_dscal(k, 1 / top, z, 1);
    cblas_dscal(k, 1 / cblas_dnrm2(k, z, 1), z, 1);
}

/* z <- (T - lambda)^-n z, normalised. */
static void invert_tridiagonal(const struct band_matrix *t, double lambda, int n, double *z,
                               double *scratch, lapack_int *pivots) {
    int k = t->k;
    double *dl = scratch, *d = dl + k, *du = d + k, *du2 = du + k;
    memcpy(dl, t->e, (size_t)(k - 1) * sizeof *dl);
    memcpy(du, t->e, (size_t)(k - 1) * sizeof *du);
    for (int j = 0; j < k; j++) d[j] = t->d[j] - lambda;
    LAPACKE_dgttrf_work(k, dl, d, du, du2, pivots);
    for (int j = 0; j < k; j++) d[j] = pivot(t, d[j]);
    for (int solve = 0; solve < n; solve++) {
        LAPACKE_dgttrs_work(LAPACK_COL_MAJOR, 'N', k, 1, dl, d, du, du2, pivots, z, k);
        normalise(k, z);
    }
}

static void invert_band(const struct band_matrix *t, double lambda, int n, double *z,
                        double *scratch, lapack_int *pivots) {
    int k = t->k, kd = t->kd, ld = 3 * kd + 1;
    memset(scratch, 0, factor_size(t) * sizeof *scratch);
    double *diagonal = scratch + 2 * kd;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i <= kd && j + i < k; i++)
            diagonal[j * ld + i] = diagonal[(j + i) * ld - i] = t->band[j * (kd + 1) + i];
        diagonal[j * ld] -= lambda;
    }
    LAPACKE_dgbtrf_work(LAPACK_COL_MAJOR, k, k, kd, kd, scratch, ld, pivots);
    for (int64_t j = 0; j < k; j++) diagonal[j * ld] = pivot(t, diagonal[j * ld]);
    for (int solve = 0; solve < n; solve++) {
        LAPACKE_dgbtrs_work(LAPACK_COL_MAJOR, 'N', k, kd, kd, 1, scratch, ld, pivots, z, k);
        normalise(k, z);
    }
}

static void invert_chunk(void *ctx, int64_t begin, int64_t end) {
    const struct inverse *v = ctx;
    int64_t k = v->t->k, slot = threads_index();
    double *scratch = v->scratch + slot * (int64_t)factor_size(v->t);
    int n = v->start ? 2 : 1;
    for (int64_t i = begin; i < end; i++) {
        double *z = v->z + i * k;
        for (int64_t j = 0; v->start && j < k; j++) z[j] = hashed((uint64_t)i, (uint64_t)j);
        if (v->t->kd == 1)
            invert_tridiagonal(v->t, v->lambda[i], n, z, scratch, v->pivots + slot * k);
        else
            invert_band(v->t, v->lambda[i], n, z, scratch, v->pivots + slot * k);
    }
}

/* Gram-Schmidt, twice, of each vector against those before it in its group. *any: there are groups.
 * false: two vectors are the same. */
static bool orthogonalise(const struct band_matrix *t, const double *lambda, int64_t p, double *z,
                          bool *any) {
    int k = t->k;
    int64_t first = 0; /* of the group */
    *any = false;
    for (int64_t i = 1; i < p; i++) {
        if (lambda[i] - lambda[i - 1] > close_by * t->norm) first = i;
        *any = *any || first < i;
        for (int pass = 0; pass < 2 && first < i; pass++) {
            for (int64_t j = first; j < i; j++)
                cblas_daxpy(k, -cblas_ddot(k, z + i * k, 1, z + j * k, 1), z + j * k, 1, z + i * k,
                            1);
            double norm = cblas_dnrm2(k, z + i * k, 1);
            if (!(norm > 1e-12)) return false;
            cblas_dscal(k, 1 / norm, z + i * k, 1);
        }
    }
    return true;
}

enum mil_status band_vectors(const struct band_matrix *t, const double *lambda, int64_t p,
                             double *z, struct mil_error *err) {
    size_t slots = (size_t)threads_count(), k = (size_t)t->k;
    struct inverse v = {.t = t, .lambda = lambda, .z = z};
    enum mil_status st = MIL_OK;
    v.scratch = mem_alloc(MEM_SCRATCH, slots * factor_size(t), sizeof *v.scratch);
    v.pivots = mem_alloc(MEM_SCRATCH, slots * k, sizeof *v.pivots);
    if (!v.scratch || !v.pivots) st = error_nomem(err, slots * factor_size(t) * sizeof *v.scratch);
    bool again = true;
    for (int round = 0; st == MIL_OK && again && round < 2; round++) {
        v.start = round == 0;
        parallel_for(p, CHUNK, invert_chunk, &v);
        if (!orthogonalise(t, lambda, p, z, &again))
            st = error_set(err, MIL_NUMERIC, "inverse iteration: %lld vectors are dependent",
                           (long long)p);
    }
    mem_free(v.pivots);
    mem_free(v.scratch);
    return st;
}

/* ---- regularised solves ---- */

struct solves {
    const struct band_matrix *t;
    const double *lambda;
    double delta, *z;
    double complex *scratch; /* k + factor_size numbers a thread */
    lapack_int *pivots;
};

/* x <- (T - shift)^-1 x. */
static void solve_tridiagonal(const struct band_matrix *t, double complex shift, double complex *x,
                              double complex *scratch, lapack_int *pivots) {
    int k = t->k;
    double complex *dl = scratch, *d = dl + k, *du = d + k, *du2 = du + k;
    for (int j = 0; j < k - 1; j++) dl[j] = du[j] = t->e[j];
    for (int j = 0; j < k; j++) d[j] = t->d[j] - shift;
    LAPACKE_zgttrf_work(k, dl, d, du, du2, pivots);
    LAPACKE_zgttrs_work(LAPACK_COL_MAJOR, 'N', k, 1, dl, d, du, du2, pivots, x, k);
}

static void solve_band(const struct band_matrix *t, double complex shift, double complex *x,
                       double complex *scratch, lapack_int *pivots) {
    int k = t->k, kd = t->kd, ld = 3 * kd + 1;
    memset(scratch, 0, factor_size(t) * sizeof *scratch);
    double complex *diagonal = scratch + 2 * kd;
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i <= kd && j + i < k; i++)
            diagonal[j * ld + i] = diagonal[(j + i) * ld - i] = t->band[j * (kd + 1) + i];
        diagonal[j * ld] -= shift;
    }
    LAPACKE_zgbtrf_work(LAPACK_COL_MAJOR, k, k, kd, kd, scratch, ld, pivots);
    LAPACKE_zgbtrs_work(LAPACK_COL_MAJOR, 'N', k, kd, kd, 1, scratch, ld, pivots, x, k);
}

static void solve_chunk(void *ctx, int64_t begin, int64_t end) {
    const struct solves *s = ctx;
    int64_t k = s->t->k, slot = threads_index();
    double complex *x = s->scratch + slot * (k + (int64_t)factor_size(s->t)), *factor = x + k;
    for (int64_t i = begin; i < end; i++) {
        double *z = s->z + i * k;
        double complex shift = s->lambda[i] + s->delta * I;
        for (int64_t j = 0; j < k; j++) x[j] = z[j];
        if (s->t->kd == 1)
            solve_tridiagonal(s->t, shift, x, factor, s->pivots + slot * k);
        else
            solve_band(s->t, shift, x, factor, s->pivots + slot * k);
        for (int64_t j = 0; j < k; j++) z[j] = creal(x[j]);
    }
}

enum mil_status band_solve(const struct band_matrix *t, const double *lambda, double delta,
                           int64_t p, double *z, struct mil_error *err) {
    size_t slots = (size_t)threads_count(), k = (size_t)t->k, each = k + factor_size(t);
    struct solves s = {.t = t, .lambda = lambda, .delta = delta, .z = z};
    s.scratch = mem_alloc(MEM_SCRATCH, slots * each, sizeof *s.scratch);
    s.pivots = mem_alloc(MEM_SCRATCH, slots * k, sizeof *s.pivots);
    bool enough = s.scratch && s.pivots;
    if (enough) parallel_for(p, CHUNK, solve_chunk, &s);
    mem_free(s.pivots);
    mem_free(s.scratch);
    return enough ? MIL_OK : error_nomem(err, slots * each * sizeof *s.scratch);
}
