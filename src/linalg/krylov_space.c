/* SPDX-License-Identifier: Apache-2.0 */
/* krylov_space.c - largest Ritz pairs of a symmetric operator from a block Krylov space, in f32.
 *
 * Block Lanczos with full orthogonalisation.  Narrow blocks and many steps: for the same dimension
 * the polynomial's degree is what converges a dense edge (blocks of 96 did not get there in 600
 * dimensions, blocks of 16 do in 400).  Every block is orthogonalised twice, by Householder QR
 * within itself, so a space that closes (an operator of low rank) goes on with fresh directions.
 * The projected matrix keeps all its entries rather than the block tridiagonal part: they are at
 * hand, and rounding in f32 then shows in the Ritz values.  The residual of a Ritz pair of the
 * projected matrix (Q, T) is || beta s_last ||, beta the triangle that the next block left over. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "linalg/krylov.h"

enum { START_SEED = 20250122 };

/* q [k, max_dim]; t [max_dim, max_dim] upper triangle; beta [b, b] of the newest block. */
struct space {
    float *q, *z, *h, *tau, *work;
    double *t, *beta;
    double *eigen, *values, *vectors, *eigen_work;
    int *eigen_iwork, *support;
    lapack_int lwork, eigen_lwork, eigen_liwork;
};

static void space_release(struct space *a) {
    mem_free(a->q);
    mem_free(a->z);
    mem_free(a->h);
    mem_free(a->tau);
    mem_free(a->work);
    mem_free(a->t);
    mem_free(a->beta);
    mem_free(a->eigen);
    mem_free(a->values);
    mem_free(a->vectors);
    mem_free(a->eigen_work);
    mem_free(a->eigen_iwork);
    mem_free(a->support);
}

static enum mil_status space_new(const struct krylov_space *s, struct space *a,
                                 struct mil_error *err) {
    size_t k = (size_t)s->k, b = (size_t)s->b, d = (size_t)s->max_dim, p = (size_t)s->p;
    *a = (struct space){.lwork = (lapack_int)(64 * b + 64),
                        .eigen_lwork = (lapack_int)(26 * d + 64),
                        .eigen_liwork = (lapack_int)(10 * d + 64)};
    a->q = mem_alloc(MEM_SCRATCH, k * d, sizeof *a->q);
    a->z = mem_alloc(MEM_SCRATCH, k * b, sizeof *a->z);
    a->h = mem_alloc(MEM_SCRATCH, d * (b > p ? b : p), sizeof *a->h);
    a->tau = mem_alloc(MEM_SCRATCH, b, sizeof *a->tau);
    a->work = mem_alloc(MEM_SCRATCH, (size_t)a->lwork, sizeof *a->work);
    a->t = mem_calloc(MEM_SCRATCH, d * d, sizeof *a->t);
    a->beta = mem_alloc(MEM_SCRATCH, 2 * b * b, sizeof *a->beta);
    a->eigen = mem_alloc(MEM_SCRATCH, d * d, sizeof *a->eigen);
    a->values = mem_alloc(MEM_SCRATCH, d, sizeof *a->values);
    a->vectors = mem_alloc(MEM_SCRATCH, d * p, sizeof *a->vectors);
    a->eigen_work = mem_alloc(MEM_SCRATCH, (size_t)a->eigen_lwork, sizeof *a->eigen_work);
    a->eigen_iwork = mem_alloc(MEM_SCRATCH, (size_t)a->eigen_liwork, sizeof *a->eigen_iwork);
    a->support = mem_alloc(MEM_SCRATCH, 2 * p, sizeof *a->support);
    if (a->q && a->z && a->h && a->tau && a->work && a->t && a->beta && a->eigen && a->values &&
        a->vectors && a->eigen_work && a->eigen_iwork && a->support)
        return MIL_OK;
    space_release(a);
    return error_nomem(err, (k * (d + b) + 2 * d * d) * sizeof(double));
}

/* h = Q^T z and z -= Q h over the first dims columns; h kept in a->h [dims, b]. */
static void project(const struct krylov_space *s, struct space *a, int dims) {
    int k = (int)s->k, b = (int)s->b;
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, dims, b, k, 1.0f, a->q, k, a->z, k, 0.0f,
                a->h, dims);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, b, dims, -1.0f, a->q, k, a->h, dims,
                1.0f, a->z, k);
}

/* z <- orthonormal basis of z; r [b, b] its triangle, zeros below. */
static bool orthonormal(const struct krylov_space *s, struct space *a, double *r) {
    int k = (int)s->k, b = (int)s->b;
    if (LAPACKE_sgeqrf_work(LAPACK_COL_MAJOR, k, b, a->z, k, a->tau, a->work, a->lwork) != 0)
        return false;
    for (int j = 0; j < b; j++)
        for (int i = 0; i < b; i++) r[i + j * b] = i <= j ? (double)a->z[i + (size_t)j * s->k] : 0;
    return LAPACKE_sorgqr_work(LAPACK_COL_MAJOR, k, b, b, a->z, k, a->tau, a->work, a->lwork) == 0;
}

/* z = Op of the newest block; its coefficients into t, the rest orthonormalised into the next block,
 * whose triangle goes to beta. */
static bool extend(const struct krylov_space *s, struct space *a, int dims) {
    int b = (int)s->b, d = (int)s->max_dim;
    double *r1 = a->beta, *r2 = a->beta + b * b;
    s->op(s->ctx, a->q + (size_t)(dims - b) * s->k, a->z, b);
    project(s, a, dims);
    for (int j = 0; j < b; j++)
        for (int i = 0; i < dims; i++)
            a->t[i + (size_t)(dims - b + j) * d] = (double)a->h[i + (size_t)j * dims];
    if (!orthonormal(s, a, r1)) return false;
    project(s, a, dims);
    if (!orthonormal(s, a, r2)) return false;
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, b, b, 1.0, r2, b,
                r1, b); /* z = Z_new r2 r1 */
    if (dims < d) memcpy(a->q + (size_t)dims * s->k, a->z, (size_t)s->k * b * sizeof *a->z);
    return true;
}

/* The p largest eigenpairs of t [dims, dims], ascending. */
static bool projected(const struct krylov_space *s, struct space *a, int dims) {
    int d = (int)s->max_dim, p = (int)s->p, found = 0;
    for (int j = 0; j < dims; j++)
        for (int i = 0; i <= j; i++) {
            double mean = a->t[i + (size_t)j * d];
            if (j / s->b == i / s->b && i != j) mean = 0.5 * (mean + a->t[j + (size_t)i * d]);
            a->eigen[i + (size_t)j * dims] = mean;
        }
    return LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'U', dims, a->eigen, dims, 0, 0,
                               dims - p + 1, dims, 0, &found, a->values, a->vectors, dims,
                               a->support, a->eigen_work, a->eigen_lwork, a->eigen_iwork,
                               a->eigen_liwork) == 0 &&
           found == p;
}

/* || beta s_last || / |theta| of the pair that is `place`-th from the largest. */
static double residual(const struct krylov_space *s, const struct space *a, int dims, int place) {
    int b = (int)s->b, column = (int)s->p - 1 - place;
    const double *last = a->vectors + (size_t)column * dims + dims - b;
    double sum = 0;
    for (int i = 0; i < b; i++) {
        double x = 0;
        for (int j = i; j < b; j++) x += a->beta[i + j * b] * last[j];
        sum += x * x;
    }
    return sqrt(sum) / fabs(a->values[column]);
}

static bool converged(const struct krylov_space *s, const struct space *a, int dims) {
    for (int i = 0; i < s->enough; i++)
        if (!(residual(s, a, dims, i) <= (i < s->wanted ? s->tolerance : s->guard_tolerance)))
            return false;
    return true;
}

static void start(const struct krylov_space *s, struct space *a) {
    for (int64_t i = 0; i < s->k * s->b; i++)
        a->z[i] = (float)rng_normal(START_SEED, rng_stream(RNG_SELECT, 0), 0, (uint64_t)i);
}

enum mil_status krylov_ritz(struct krylov_space *s, struct mil_error *err) {
    struct space a;
    int b = (int)s->b, dims = b, check = (int)(2 * s->p), k = (int)s->k;
    bool sound, done = false;
    TRY(space_new(s, &a, err));
    start(s, &a);
    sound = orthonormal(s, &a, a.beta);
    memcpy(a.q, a.z, (size_t)s->k * s->b * sizeof *a.q);
    for (; sound && !done; dims += b) {
        sound = extend(s, &a, dims);
        bool last = dims + b > s->max_dim;
        if (!sound || (dims < check && !last)) continue;
        sound = projected(s, &a, dims);
        done = last || (sound && converged(s, &a, dims));
        check = dims + dims / 4;
    }
    s->dims = dims -= b;
    s->found = 0;
    while (sound && s->found < s->p && residual(s, &a, dims, (int)s->found) <= s->guard_tolerance)
        s->found++;
    if (sound) { /* v = Q s, largest first */
        for (int j = 0; j < s->p; j++)
            for (int i = 0; i < dims; i++)
                a.h[i + (size_t)j * dims] = (float)a.vectors[i + (size_t)(s->p - 1 - j) * dims];
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, (int)s->p, dims, 1.0f, a.q, k,
                    a.h, dims, 0.0f, s->v, k);
    }
    space_release(&a);
    return sound ? MIL_OK : error_set(err, MIL_NUMERIC, "the Krylov space broke down");
}
