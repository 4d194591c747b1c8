/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal_reduce.c - see tridiagonal.h: dsytrd and dsterf on the Gram matrix, vectors of chosen
 * eigenvalues by inverse iteration, back through Q, and refine_pairs with corrections solved in the
 * reduced basis.
 *
 * dsytrd spends half of its operations in matrix-vector products, which beyond the caches run at the
 * speed of memory.  From TWO_STAGE on the reduction stops at a band (dsytrd_sy2sb, all of it
 * products of matrices), the band's eigenvalues come by bulge chasing (dsbtrd), and the vectors by
 * inverse iteration on the band itself: the rotations of the chase are never stored.
 *
 * The computed eigenvalues of G are right to eta = k eps s_0^2, the backward error of the products
 * and of the reduction.  Neighbours closer than 4 eta may be in either order in truth: they join the
 * block, and the refined values, right to their residual of some eps s_0, settle it.  Values below
 * some sqrt(eps) s_0 are one cluster at zero for G, and T knows nothing of their vectors outside of
 * the block: they refine fully if the block holds them all or if the others are zero. */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/tridiagonal.h"
#include "linalg/tridiagonal_vectors.h"

enum { GUARDS = 32, TWO_STAGE = 3072, BANDWIDTH = 32 };
static const double eps = 0x1p-52;

/* In LAPACK since 3.7, not in its C interface. The last argument is Fortran's length of uplo. */
#define sy2sb LAPACK_GLOBAL(dsytrd_sy2sb, DSYTRD_SY2SB)
void sy2sb(const char *uplo, const lapack_int *n, const lapack_int *kd, double *a,
           const lapack_int *lda, double *ab, const lapack_int *ldab, double *tau, double *work,
           const lapack_int *lwork, lapack_int *info, size_t length);

void reduction_release(struct reduction *t) {
    mem_free(t->g);
    mem_free(t->d);
    mem_free(t->e);
    mem_free(t->tau);
    mem_free(t->lambda);
    mem_free(t->band);
    mem_free(t->work);
    mem_free(t->in);
    mem_free(t->shift);
    mem_free(t->x);
    mem_free(t->y);
    mem_free(t->sigma);
}

/* Workspace of dsytrd, or of dsytrd_sy2sb and dsbtrd. */
static lapack_int workspace(lapack_int k, lapack_int kd) {
    if (kd == 1) return 64 * k;
    double want = 0, none = 0;
    lapack_int query = -1, info, ld = kd + 1;
    sy2sb("L", &k, &kd, &none, &k, &none, &ld, &none, &want, &query, &info, 1);
    return want > k ? (lapack_int)want : k;
}

static enum mil_status reduction_new(const struct svd_matrix *w, int kd, struct reduction *t,
                                     struct mil_error *err) {
    size_t k = (size_t)short_side(w);
    *t = (struct reduction){.w = w, .k = (int)k, .kd = kd};
    t->lwork = workspace(t->k, t->kd);
    t->g = mem_alloc(MEM_SCRATCH, k * k, sizeof *t->g);
    t->d = mem_alloc(MEM_SCRATCH, k, sizeof *t->d);
    t->e = mem_alloc(MEM_SCRATCH, k, sizeof *t->e);
    t->tau = mem_alloc(MEM_SCRATCH, k, sizeof *t->tau);
    t->lambda = mem_alloc(MEM_SCRATCH, k, sizeof *t->lambda);
    t->band = mem_alloc(MEM_SCRATCH, t->kd > 1 ? k * (size_t)(t->kd + 1) : 0, sizeof *t->band);
    t->work = mem_alloc(MEM_SCRATCH, (size_t)t->lwork + k, sizeof *t->work);
    t->in = mem_calloc(MEM_SCRATCH, k, sizeof *t->in);
    if (t->g && t->d && t->e && t->tau && t->lambda && t->band && t->work && t->in) return MIL_OK;
    return error_nomem(err, (k * k + 64 * k) * sizeof(double));
}

static enum mil_status failed(const struct svd_matrix *w, const char *what, struct mil_error *err) {
    return error_set(err, MIL_NUMERIC, "SVD of a %lld x %lld matrix: %s", (long long)w->m,
                     (long long)w->n, what);
}

/* G to a band, the band to T. t->work holds a copy of the band for the chase. */
static enum mil_status reduce_in_two(struct reduction *t, struct mil_error *err) {
    lapack_int k = t->k, kd = t->kd, ld = kd + 1, info = 0;
    sy2sb("L", &k, &kd, t->g, &k, t->band, &ld, t->tau, t->work, &t->lwork, &info, 1);
    if (info != 0) return failed(t->w, "dsytrd_sy2sb failed", err);
    size_t size = (size_t)k * (size_t)ld;
    double *copy = mem_alloc(MEM_SCRATCH, size, sizeof *copy), none = 0;
    if (!copy) return error_nomem(err, size * sizeof *copy);
    memcpy(copy, t->band, size * sizeof *copy);
    info = LAPACKE_dsbtrd_work(LAPACK_COL_MAJOR, 'N', 'L', k, kd, copy, ld, t->d, t->e, &none, 1,
                               t->work);
    mem_free(copy);
    return info == 0 ? MIL_OK : failed(t->w, "dsbtrd failed", err);
}

static enum mil_status reduce(struct reduction *t, struct mil_error *err) {
    if (t->kd > 1) return reduce_in_two(t, err);
    lapack_int info = LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', t->k, t->g, t->k, t->d, t->e,
                                          t->tau, t->work, t->lwork);
    return info == 0 ? MIL_OK : failed(t->w, "dsytrd failed", err);
}

enum mil_status reduction_run(const struct svd_matrix *w, int kd, struct reduction *t,
                              struct mil_error *err) {
    if (kd == 0) kd = short_side(w) < TWO_STAGE ? 1 : BANDWIDTH;
    TRY(reduction_new(w, kd, t, err));
    TRY(matrix_gram(w, t->g, err));
    TRY(reduce(t, err));
    int k = t->k;
    double *e = t->work;
    memcpy(t->lambda, t->d, (size_t)k * sizeof *t->d);
    memcpy(e, t->e, (size_t)(k - 1) * sizeof *e);
    if (LAPACKE_dsterf_work(k, t->lambda, e) != 0) return failed(w, "dsterf did not converge", err);
    t->largest = fmax(fabs(t->lambda[0]), fabs(t->lambda[k - 1]));
    t->eta = k * eps * t->largest;
    return MIL_OK;
}

/* ---- the block ---- */

/* Neighbours of number j in the direction `step` that G does not separate from it. */
static int guards(const struct reduction *t, int j, int step) {
    double apart = fmax(4 * t->eta, 1000 * eps * t->largest);
    int n = 0;
    while (n < GUARDS && j + step >= 0 && j + step < t->k &&
           fabs(t->lambda[j + step] - t->lambda[j]) <= apart) {
        j += step;
        n++;
    }
    return n;
}

static enum mil_status choose_block(struct reduction *t, const int64_t *index, int64_t rank,
                                    struct mil_error *err) {
    for (int64_t i = 0; i < rank; i++) {
        int j = t->k - 1 - (int)index[i];
        bool last = i + 1 == rank || index[i + 1] != index[i] + 1,
             first = i == 0 || index[i - 1] != index[i] - 1;
        int below = last ? guards(t, j, -1) : 0, above = first ? guards(t, j, 1) : 0;
        for (int n = j - below; n <= j + above; n++) t->in[n] = true;
    }
    for (int j = 0; j < t->k; j++) t->p += t->in[j];
    size_t k = (size_t)t->k, l = (size_t)long_side(t->w), p = (size_t)t->p;
    t->shift = mem_alloc(MEM_SCRATCH, p, sizeof *t->shift);
    t->x = mem_alloc(MEM_SCRATCH, k * p, sizeof *t->x);
    t->y = mem_alloc(MEM_SCRATCH, l * p, sizeof *t->y);
    t->sigma = mem_alloc(MEM_SCRATCH, p, sizeof *t->sigma);
    if (!t->shift || !t->x || !t->y || !t->sigma)
        return error_nomem(err, (k + l + 2) * p * sizeof(double));
    for (int j = 0, n = 0; j < t->k; j++)
        if (t->in[j]) t->shift[n++] = t->lambda[j];
    return MIL_OK;
}

static struct band_matrix matrix_of(const struct reduction *t) {
    return (struct band_matrix){t->k, t->kd, t->d, t->e, t->band, t->largest > 0 ? t->largest : 1};
}

/* z <- Q z or Q^T z, z [k, p].  Q is a product of reflectors, the i-th from row i + kd on, in column i
 * of g: those of a QR factorisation of rows kd and below. */
static enum mil_status times_q(const struct reduction *t, char trans, double *z, int64_t p,
                               struct mil_error *err) {
    double want = 0;
    lapack_int k = t->k, rows = k - t->kd, n = (lapack_int)p;
    if (rows < 1) return MIL_OK;
    LAPACKE_dormqr_work(LAPACK_COL_MAJOR, 'L', trans, rows, n, rows, t->g + t->kd, k, t->tau,
                        z + t->kd, k, &want, -1);
    double *work = mem_alloc(MEM_SCRATCH, (size_t)want, sizeof *work);
    if (!work) return error_nomem(err, (uint64_t)want * sizeof *work);
    lapack_int info = LAPACKE_dormqr_work(LAPACK_COL_MAJOR, 'L', trans, rows, n, rows, t->g + t->kd,
                                          k, t->tau, z + t->kd, k, work, (lapack_int)want);
    mem_free(work);
    return info == 0 ? MIL_OK : failed(t->w, "dormqr failed", err);
}

/* T_i = Q f(B - lambda_i) Q^T R_i, f(x) = x / (x^2 + delta^2): delta, the rounding error of B, keeps
 * the solve from answering along the pair itself. */
static enum mil_status solve(void *ctx, const double *lambda, const double *r, double *z, int64_t p,
                             struct mil_error *err) {
    const struct reduction *t = ctx;
    struct band_matrix matrix = matrix_of(t);
    memcpy(z, r, (size_t)(t->k * p) * sizeof *z);
    TRY(times_q(t, 'T', z, p, err));
    TRY(band_solve(&matrix, lambda, 4 * sqrt((double)t->k) * eps * t->largest, p, z, err));
    return times_q(t, 'N', z, p, err);
}

/* The refined values are those of the Gram matrix, number by number. */
static bool matches(const struct reduction *t, double residual) {
    double limit = 4 * t->eta + 4 * residual * t->largest;
    for (int i = 0; i < t->p; i++) {
        double sigma = t->sigma[t->p - 1 - i];
        if (!(fabs(sigma * sigma - t->shift[i]) <= limit)) return false;
    }
    return true;
}

enum mil_status reduction_refine(struct reduction *t, const int64_t *index, int64_t rank,
                                 double target, double *residual, struct mil_error *err) {
    struct band_matrix matrix = matrix_of(t);
    TRY(choose_block(t, index, rank, err));
    TRY(band_vectors(&matrix, t->shift, t->p, t->x, err));
    TRY(times_q(t, 'N', t->x, t->p, err));
    struct refine f = {.w = t->w,
                       .p = t->p,
                       .x = t->x,
                       .y = t->y,
                       .sigma = t->sigma,
                       .scale = sqrt(t->largest),
                       .target = target,
                       .max_steps = 6,
                       .solve = solve,
                       .ctx = t};
    TRY(refine_pairs(&f, err));
    *residual = f.residual;
    return matches(t, f.residual)
               ? MIL_OK
               : failed(t->w, "the refined values are not those of the Gram matrix", err);
}

/* Only DT_F64 can hold entries whose squares are out of range; a Frobenius norm of 0 may then be one of
 * squares that underflowed. */
bool reduction_in_range(const struct svd_matrix *w, double frobenius) {
    if (w->dtype != DT_F64 || (frobenius > 1e-70 && frobenius < 1e70)) return true;
    const double *x = w->data;
    bool zero = frobenius == 0;
    for (int64_t i = 0; zero && i < w->m * w->n; i++) zero = x[i] == 0;
    return zero;
}
