/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal_vectors.c - inverse iteration and regularised solves on a tridiagonal matrix.
 *
 * Inverse iteration (Wilkinson; LAPACK's dstein is the reference) with an eigenvalue right to some
 * eps norm converges in two solves from a random start.  Values that coincide to 1e-8 norm get
 * vectors that may be dependent; those are orthogonalised among themselves after each solve.  What
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

enum { SOLVES = 2, CHUNK = 4 };
static const double close_by = 1e-8;

/* ---- inverse iteration ---- */

struct inverse {
    const struct tridiagonal *t;
    const double *lambda;
    double *z, *scratch; /* scratch: 5 k numbers a chunk */
    lapack_int *pivots;  /* k a chunk */
    bool start;
};

/* Uniform in [-1, 1), a hash of (column, row): Vigna's splitmix64 finaliser. */
static double hashed(uint64_t column, uint64_t row) {
    uint64_t x = (column << 32) + row + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-52 - 1.0;
}

/* One solve with T - lambda, pivots of rounding size kept away from zero, and normalised. */
static void invert(const struct inverse *v, int64_t i, double *scratch, lapack_int *pivots) {
    int k = v->t->k;
    double *dl = scratch, *d = dl + k, *du = d + k, *du2 = du + k, *z = v->z + i * k;
    double least = 1e-3 * 0x1p-52 * v->t->norm;
    memcpy(dl, v->t->e, (size_t)(k - 1) * sizeof *dl);
    memcpy(du, v->t->e, (size_t)(k - 1) * sizeof *du);
    for (int j = 0; j < k; j++) d[j] = v->t->d[j] - v->lambda[i];
    LAPACKE_dgttrf_work(k, dl, d, du, du2, pivots);
    for (int j = 0; j < k; j++)
        if (!(fabs(d[j]) > least)) d[j] = d[j] < 0 ? -least : least;
    LAPACKE_dgttrs_work(LAPACK_COL_MAJOR, 'N', k, 1, dl, d, du, du2, pivots, z, k);
    double top = fabs(z[cblas_idamax(k, z, 1)]);
    cblas_dscal(k, 1 / top, z, 1);
    cblas_dscal(k, 1 / cblas_dnrm2(k, z, 1), z, 1);
}

static void invert_chunk(void *ctx, int64_t begin, int64_t end) {
    const struct inverse *v = ctx;
    int64_t k = v->t->k, chunk = begin / CHUNK;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t j = 0; v->start && j < k; j++)
            v->z[i * k + j] = hashed((uint64_t)i, (uint64_t)j);
        invert(v, i, v->scratch + chunk * 4 * k, v->pivots + chunk * k);
    }
}

/* Gram-Schmidt, twice, of each vector against those before it in its group. */
static bool orthogonalise(const struct tridiagonal *t, const double *lambda, int64_t p, double *z) {
    int k = t->k;
    int64_t first = 0; /* of the group */
    for (int64_t i = 1; i < p; i++) {
        if (lambda[i] - lambda[i - 1] > close_by * t->norm) first = i;
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

enum mil_status tridiagonal_vectors(const struct tridiagonal *t, const double *lambda, int64_t p,
                                    double *z, struct mil_error *err) {
    size_t chunks = (size_t)((p + CHUNK - 1) / CHUNK), k = (size_t)t->k;
    struct inverse v = {.t = t, .lambda = lambda, .z = z};
    enum mil_status st = MIL_OK;
    v.scratch = mem_alloc(MEM_SCRATCH, chunks * 4 * k, sizeof *v.scratch);
    v.pivots = mem_alloc(MEM_SCRATCH, chunks * k, sizeof *v.pivots);
    if (!v.scratch || !v.pivots) st = error_nomem(err, chunks * 4 * k * sizeof *v.scratch);
    for (int solve = 0; st == MIL_OK && solve < SOLVES; solve++) {
        v.start = solve == 0;
        parallel_for(p, CHUNK, invert_chunk, &v);
        if (!orthogonalise(t, lambda, p, z))
            st = error_set(err, MIL_NUMERIC, "inverse iteration: %lld vectors are dependent",
                           (long long)p);
    }
    mem_free(v.pivots);
    mem_free(v.scratch);
    return st;
}

/* ---- regularised solves ---- */

struct solves {
    const struct tridiagonal *t;
    const double *lambda;
    double delta, *z;
    double complex *scratch; /* 5 k a chunk */
    lapack_int *pivots;
};

static void solve_chunk(void *ctx, int64_t begin, int64_t end) {
    const struct solves *s = ctx;
    int k = s->t->k;
    double complex *dl = s->scratch + begin / CHUNK * 5 * k, *d = dl + k, *du = d + k,
                   *du2 = du + k, *x = du2 + k;
    lapack_int *pivots = s->pivots + begin / CHUNK * k;
    for (int64_t i = begin; i < end; i++) {
        double *z = s->z + i * k;
        for (int j = 0; j < k - 1; j++) dl[j] = du[j] = s->t->e[j];
        for (int j = 0; j < k; j++) {
            d[j] = s->t->d[j] - s->lambda[i] - s->delta * I;
            x[j] = z[j];
        }
        LAPACKE_zgttrf_work(k, dl, d, du, du2, pivots);
        LAPACKE_zgttrs_work(LAPACK_COL_MAJOR, 'N', k, 1, dl, d, du, du2, pivots, x, k);
        for (int j = 0; j < k; j++) z[j] = creal(x[j]);
    }
}

enum mil_status tridiagonal_solve(const struct tridiagonal *t, const double *lambda, double delta,
                                  int64_t p, double *z, struct mil_error *err) {
    size_t chunks = (size_t)((p + CHUNK - 1) / CHUNK), k = (size_t)t->k;
    struct solves s = {.t = t, .lambda = lambda, .delta = delta, .z = z};
    s.scratch = mem_alloc(MEM_SCRATCH, chunks * 5 * k, sizeof *s.scratch);
    s.pivots = mem_alloc(MEM_SCRATCH, chunks * k, sizeof *s.pivots);
    bool enough = s.scratch && s.pivots;
    if (enough) parallel_for(p, CHUNK, solve_chunk, &s);
    mem_free(s.pivots);
    mem_free(s.scratch);
    return enough ? MIL_OK : error_nomem(err, chunks * 5 * k * sizeof *s.scratch);
}
