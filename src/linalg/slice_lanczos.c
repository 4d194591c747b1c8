/* SPDX-License-Identifier: Apache-2.0 */
/* slice_lanczos.c - block Lanczos with full orthogonalisation, in f32.
 *
 * Q = [Q_0, Q_1, ...], Op Q_j = Q_0..j T_0..j,j + Q_j+1 R_j.  Each new block is orthogonalised twice
 * against the whole basis (once is not enough in f32), and within itself by Cholesky's QR, whose
 * Gram matrix is formed in f64: that bears condition numbers up to 1e7, all that f32 columns can
 * have.  The Ritz values of T are those of Op; the last block row of a Ritz vector times R_j is the
 * residual. */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "linalg/slice.h"

enum { START_STREAM = 0x51ce };

enum mil_status lanczos_new(int64_t k, int64_t block, int64_t cap, lanczos_operator op,
                            const void *ctx, struct lanczos *b, struct mil_error *err) {
    cap = (cap + block - 1) / block * block;
    *b = (struct lanczos){.k = k, .block = block, .cap = cap, .op = op, .ctx = ctx};
    b->q = mem_alloc(MEM_SCRATCH, (size_t)(k * (cap + block)), sizeof *b->q);
    b->t = mem_calloc(MEM_SCRATCH, (size_t)(cap * cap), sizeof *b->t);
    b->next = mem_calloc(MEM_SCRATCH, (size_t)(block * block), sizeof *b->next);
    b->value = mem_alloc(MEM_SCRATCH, (size_t)cap, sizeof *b->value);
    b->vector = mem_alloc(MEM_SCRATCH, (size_t)(cap * cap), sizeof *b->vector);
    b->leak = mem_alloc(MEM_SCRATCH, (size_t)cap, sizeof *b->leak);
    b->wide = mem_alloc(MEM_SCRATCH, (size_t)(k * block), sizeof *b->wide);
    b->coef = mem_alloc(MEM_SCRATCH, (size_t)(cap * block), sizeof *b->coef);
    if (b->q && b->t && b->next && b->value && b->vector && b->leak && b->wide && b->coef)
        return MIL_OK;
    lanczos_release(b);
    return error_nomem(err, lanczos_memory(k, block, cap));
}

void lanczos_release(struct lanczos *b) {
    mem_free(b->q);
    mem_free(b->t);
    mem_free(b->next);
    mem_free(b->value);
    mem_free(b->vector);
    mem_free(b->leak);
    mem_free(b->wide);
    mem_free(b->coef);
    memset(b, 0, sizeof *b);
}

size_t lanczos_memory(int64_t k, int64_t block, int64_t cap) {
    return (size_t)(k * (cap + 3 * block) + 2 * cap * (cap + block)) * sizeof(float);
}

/* x [k, block] = its orthonormal factor, r [block, block] upper triangular in f64. */
static enum mil_status orthonormalise(struct lanczos *b, float *x, double *r,
                                      struct mil_error *err) {
    int k = (int)b->k, p = (int)b->block;
    for (int64_t i = 0; i < b->k * b->block; i++) b->wide[i] = (double)x[i];
    memset(r, 0, (size_t)(p * p) * sizeof *r);
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, p, k, 1.0, b->wide, k, 0.0, r, p);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', p, r, p) != 0)
        return error_set(err, MIL_NUMERIC, "the Krylov space is exhausted at dimension %lld",
                         (long long)b->dim);
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, k, p, 1.0, r, p,
                b->wide, k);
    for (int64_t i = 0; i < b->k * b->block; i++) x[i] = (float)b->wide[i];
    return MIL_OK;
}

enum { BLOCK_MAX = 32 };

enum mil_status lanczos_start(struct lanczos *b, struct mil_error *err) {
    double r[BLOCK_MAX * BLOCK_MAX];
    REQUIRE(b->block <= BLOCK_MAX);
    b->dim = 0;
    for (int64_t i = 0; i < b->k * b->block; i++)
        b->q[i] = (float)rng_normal(0, rng_stream(RNG_SELECT, START_STREAM), 0, (uint64_t)i);
    TRY(orthonormalise(b, b->q, r, err));
    return orthonormalise(b, b->q, r, err);
}

/* x -= Q Q^T x; coef [dim, block] = Q^T x. */
static void project_out(const struct lanczos *b, int64_t dim, float *x) {
    int k = (int)b->k, p = (int)b->block, n = (int)dim;
    cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, n, p, k, 1.0f, b->q, k, x, k, 0.0f,
                b->coef, n);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, k, p, n, -1.0f, b->q, k, b->coef, n,
                1.0f, x, k);
}

/* Multiply the next block; afterwards dim has grown by one block. */
static enum mil_status multiply_block(struct lanczos *b, struct mil_error *err) {
    int64_t p = b->block, dim = b->dim + p;
    float *x = b->q + b->dim * b->k, *y = b->q + dim * b->k, *t = b->t + b->dim * b->cap;
    double first[BLOCK_MAX * BLOCK_MAX], second[BLOCK_MAX * BLOCK_MAX];
    b->op(b->ctx, x, y, p);
    project_out(b, dim, y);
    for (int64_t j = 0; j < p; j++)
        memcpy(t + j * b->cap, b->coef + j * dim, (size_t)dim * sizeof *t);
    TRY(orthonormalise(b, y, first, err));
    project_out(b, dim, y);
    TRY(orthonormalise(b, y, second, err));
    for (int64_t j = 0; j < p; j++)
        for (int64_t i = 0; i < p; i++) {
            double sum = 0; /* R = second * first, both upper triangular */
            for (int64_t l = i; l <= j; l++) sum += second[i + l * p] * first[l + j * p];
            b->next[i + j * p] = (float)sum;
        }
    b->dim = dim;
    return MIL_OK;
}

enum mil_status lanczos_extend(struct lanczos *b, int64_t dims, struct mil_error *err) {
    if (dims > b->cap) dims = b->cap;
    while (b->dim < dims) TRY(multiply_block(b, err));
    return MIL_OK;
}

enum mil_status lanczos_ritz(struct lanczos *b, struct mil_error *err) {
    int64_t n = b->dim, p = b->block;
    for (int64_t j = 0; j < n; j++)
        memcpy(b->vector + j * n, b->t + j * b->cap, (size_t)n * sizeof *b->vector);
    int info = LAPACKE_ssyevd(LAPACK_COL_MAJOR, 'V', 'U', (int)n, b->vector, (int)n, b->value);
    if (info != 0)
        return error_set(err, MIL_NUMERIC, "ssyevd of the projected matrix did not converge (%d)",
                         info);
    for (int64_t j = 0; j < n; j++) {
        const float *last = b->vector + j * n + n - p;
        double sum = 0;
        for (int64_t i = 0; i < p; i++) {
            double row = 0;
            for (int64_t l = i; l < p; l++) row += (double)b->next[i + l * p] * (double)last[l];
            sum += row * row;
        }
        b->leak[j] = (float)sqrt(sum);
    }
    return MIL_OK;
}

void lanczos_vectors(const struct lanczos *b, int64_t first, int64_t n, float *x) {
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)b->k, (int)n, (int)b->dim, 1.0f,
                b->q, (int)b->k, b->vector + first * b->dim, (int)b->dim, 0.0f, x, (int)b->k);
}

void lanczos_restart_top(struct lanczos *b) {
    float *x = b->q + b->dim * b->k;
    lanczos_vectors(b, b->dim - b->block, b->block, x);
    memcpy(b->q, x, (size_t)(b->k * b->block) * sizeof *x);
    b->dim = 0;
}
