/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal.c - any set of triplets without a full decomposition: the Gram matrix in f64 is
 * reduced to tridiagonal form,  G = Q T Q^T  (dsytrd), all eigenvalues follow cheaply (dsterf), the
 * asked eigenvectors by inverse iteration, and refine_pairs turns them into singular pairs with
 * corrections solved in the tridiagonal basis.
 *
 * Which indices.  The computed eigenvalues of G are right to eta = k eps s_0^2 (the backward error of
 * the products and of the reduction).  Values whose neighbours are further apart than 2 eta have
 * their proven index.  Where they are closer, the neighbours (guards) join the block, and the
 * refined values, which are right to their residual of some eps s_0, settle the order.  At most
 * GUARDS a side join; what then remains open is stated in `cut`.
 *
 * Values below some sqrt(eps) s_0 are one cluster at zero for G.  They come out fully accurate if the
 * block holds them all, or if the others are zero; otherwise the certificate fails and the chain
 * goes on. */
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "linalg/internal.h"
#include "linalg/tridiagonal_vectors.h"

enum { GUARDS = 32 };
static const double eps = 0x1p-52;

/* Eigenvalues and blocks are counted in ascending order here: number j is index k - 1 - j. */
struct reduction {
    const struct svd_matrix *w;
    int k, p;
    lapack_int lwork;
    double *g;                    /* [k, k] reflectors of Q */
    double *d, *e, *tau, *lambda; /* [k] */
    double *work;                 /* lwork numbers of LAPACK's, then k of dsterf's */
    bool *in;                     /* [k] number j is in the block */
    double eta, largest;          /* largest: max |lambda| */
    double *shift;                /* [p] lambda of the block */
    double *x, *y, *sigma;        /* the block: [k, p], [l, p], [p] */
};

static void reduction_release(struct reduction *t) {
    mem_free(t->g);
    mem_free(t->d);
    mem_free(t->e);
    mem_free(t->tau);
    mem_free(t->lambda);
    mem_free(t->work);
    mem_free(t->in);
    mem_free(t->shift);
    mem_free(t->x);
    mem_free(t->y);
    mem_free(t->sigma);
}

static enum mil_status reduction_new(const struct svd_matrix *w, struct reduction *t,
                                     struct mil_error *err) {
    size_t k = (size_t)short_side(w);
    *t = (struct reduction){.w = w, .k = (int)k, .lwork = (lapack_int)(64 * k)};
    t->g = mem_alloc(MEM_SCRATCH, k * k, sizeof *t->g);
    t->d = mem_alloc(MEM_SCRATCH, k, sizeof *t->d);
    t->e = mem_alloc(MEM_SCRATCH, k, sizeof *t->e);
    t->tau = mem_alloc(MEM_SCRATCH, k, sizeof *t->tau);
    t->lambda = mem_alloc(MEM_SCRATCH, k, sizeof *t->lambda);
    t->work = mem_alloc(MEM_SCRATCH, (size_t)t->lwork + k, sizeof *t->work);
    t->in = mem_calloc(MEM_SCRATCH, k, sizeof *t->in);
    if (t->g && t->d && t->e && t->tau && t->lambda && t->work && t->in) return MIL_OK;
    return error_nomem(err, (k * k + 64 * k) * sizeof(double));
}

static enum mil_status failed(const struct svd_matrix *w, const char *what, struct mil_error *err) {
    return error_set(err, MIL_NUMERIC, "SVD of a %lld x %lld matrix: %s", (long long)w->m,
                     (long long)w->n, what);
}

/* G = Q T Q^T and its eigenvalues. */
static enum mil_status reduce(struct reduction *t, struct mil_error *err) {
    int k = t->k;
    TRY(matrix_gram(t->w, t->g, err));
    if (LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', k, t->g, k, t->d, t->e, t->tau, t->work,
                            t->lwork) != 0)
        return failed(t->w, "dsytrd failed", err);
    double *e = t->work;
    memcpy(t->lambda, t->d, (size_t)k * sizeof *t->d);
    memcpy(e, t->e, (size_t)(k - 1) * sizeof *e);
    if (LAPACKE_dsterf_work(k, t->lambda, e) != 0)
        return failed(t->w, "dsterf did not converge", err);
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

static struct tridiagonal tridiagonal_of(const struct reduction *t) {
    return (struct tridiagonal){t->k, t->d, t->e, t->largest > 0 ? t->largest : 1};
}

/* z <- Q z or Q^T z, z [k, p]. */
static enum mil_status times_q(const struct reduction *t, char trans, double *z, int64_t p,
                               struct mil_error *err) {
    if (t->k == 1) return MIL_OK;
    double want = 0;
    lapack_int k = t->k, n = (lapack_int)p;
    LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', trans, k, n, t->g, k, t->tau, z, k, &want, -1);
    double *work = mem_alloc(MEM_SCRATCH, (size_t)want, sizeof *work);
    if (!work) return error_nomem(err, (uint64_t)want * sizeof *work);
    lapack_int info = LAPACKE_dormtr_work(LAPACK_COL_MAJOR, 'L', 'L', trans, k, n, t->g, k, t->tau,
                                          z, k, work, (lapack_int)want);
    mem_free(work);
    return info == 0 ? MIL_OK : failed(t->w, "dormtr failed", err);
}

/* T_i = Q f(T - lambda_i) Q^T R_i, f(x) = x / (x^2 + delta^2): delta, the rounding error of T, keeps
 * the solve from answering along the pair itself. */
static enum mil_status solve(void *ctx, const double *lambda, const double *r, double *z, int64_t p,
                             struct mil_error *err) {
    const struct reduction *t = ctx;
    struct tridiagonal matrix = tridiagonal_of(t);
    memcpy(z, r, (size_t)(t->k * p) * sizeof *z);
    TRY(times_q(t, 'T', z, p, err));
    TRY(tridiagonal_solve(&matrix, lambda, 4 * sqrt((double)t->k) * eps * t->largest, p, z, err));
    return times_q(t, 'N', z, p, err);
}

static enum mil_status refine_block(struct reduction *t, double *residual, struct mil_error *err) {
    struct tridiagonal matrix = tridiagonal_of(t);
    TRY(tridiagonal_vectors(&matrix, t->shift, t->p, t->x, err));
    TRY(times_q(t, 'N', t->x, t->p, err));
    struct refine f = {.w = t->w,
                       .p = t->p,
                       .x = t->x,
                       .y = t->y,
                       .sigma = t->sigma,
                       .scale = sqrt(t->largest),
                       .target = 1e-14,
                       .max_steps = 6,
                       .solve = solve,
                       .ctx = t};
    TRY(refine_pairs(&f, err));
    *residual = f.residual;
    return MIL_OK;
}

/* ---- the answer ---- */

static double root(double x) {
    return x > 0 ? sqrt(x) : 0;
}

/* How far past number j, which is in the block with the value `sigma`, its neighbour on the side
 * `step` may lie; the neighbour is known by its refined value in the block, by lambda +- eta
 * outside of it. */
static double intrusion(const struct reduction *t, int j, int step, const double *refined,
                        double rho) {
    double worst = 0, sigma = refined[j];
    int n = j + step;
    if (n < 0 || n >= t->k) return 0;
    if (t->in[n]) worst = fmax(worst, 2 * rho - step * (refined[n] - sigma));
    while (n >= 0 && n < t->k && t->in[n]) n += step;
    if (n >= 0 && n < t->k)
        worst = fmax(worst, rho - step * (root(t->lambda[n] - step * t->eta) - sigma));
    return worst;
}

/* The chosen pairs of the block into out. refined [k], by number. */
static enum mil_status hand_out(struct reduction *t, const int64_t *index, double residual,
                                double *refined, struct svd_result *out, struct mil_error *err) {
    size_t k = (size_t)t->k, l = (size_t)long_side(t->w);
    double s0 = sqrt(t->largest), rho = residual * s0, cut = 0;
    int64_t rank = out->rank;
    for (int j = 0, n = t->p; j < t->k; j++) { /* sigma descends: the last is the lowest number */
        if (!t->in[j]) continue;
        refined[j] = t->sigma[--n];
        if (!(fabs(refined[j] * refined[j] - t->lambda[j]) <= 4 * t->eta + 4 * rho * s0))
            return failed(t->w, "the refined values are not those of the Gram matrix", err);
    }
    for (int64_t i = 0; i < rank; i++) {
        int j = t->k - 1 - (int)index[i], n = 0;
        bool last = i + 1 == rank || index[i + 1] != index[i] + 1,
             first = i == 0 || index[i - 1] != index[i] - 1;
        if (last) cut = fmax(cut, intrusion(t, j, -1, refined, rho));
        if (first) cut = fmax(cut, intrusion(t, j, 1, refined, rho));
        for (int above = j + 1; above < t->k; above++) n += t->in[above];
        /* n >= i: pairs move towards the front, each into a place that is done with */
        t->sigma[i] = t->sigma[n];
        memmove(t->x + (size_t)i * k, t->x + (size_t)n * k, k * sizeof *t->x);
        memmove(t->y + (size_t)i * l, t->y + (size_t)n * l, l * sizeof *t->y);
    }
    result_from_pairs(t->x, t->y, t->sigma, out);
    out->sigma_max = index[0] == 0 ? t->sigma[0] : s0;
    out->cut = s0 > 0 ? cut / s0 : 0;
    return MIL_OK;
}

/* The squares of the entries, and their sums, must be ordinary numbers; only DT_F64 can hold others:
 * there a Frobenius norm of 0 may be one of squares that underflowed. */
static bool in_range(const struct svd_matrix *w, double frobenius) {
    if (w->dtype != DT_F64 || (frobenius > 1e-70 && frobenius < 1e70)) return true;
    const double *x = w->data;
    bool zero = frobenius == 0;
    for (int64_t i = 0; zero && i < w->m * w->n; i++) zero = x[i] == 0;
    return zero;
}

static enum mil_status run(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err) {
    struct reduction t;
    enum mil_status st;
    double residual;
    if (w->m > INT_MAX || w->n > INT_MAX || !in_range(w, frobenius))
        return failed(w, "out of the range of the method 'tridiagonal'", err);
    TRY_GOTO(reduction_new(w, &t, err));
    TRY_GOTO(reduce(&t, err));
    TRY_GOTO(choose_block(&t, index, out->rank, err));
    TRY_GOTO(refine_block(&t, &residual, err));
    TRY_GOTO(hand_out(&t, index, residual, t.work, out, err));
fail:
    reduction_release(&t);
    return st;
}

/* Below 16 the full decomposition is as fast; above half of all triplets it is no slower. */
static bool suits(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    (void)index;
    int64_t k = short_side(w);
    return k >= 16 && 2 * rank <= k;
}

static size_t memory(int64_t m, int64_t n, int64_t rank) {
    int64_t k = m < n ? m : n, p = rank + 2 * GUARDS < k ? rank + 2 * GUARDS : k;
    return (size_t)(k * k + 80 * k + (int64_t)(1 << 21) + 3 * p * (m + n) + rank * (m + n)) *
           sizeof(double);
}

const struct svd_method method_tridiagonal = {"tridiagonal", suits, run, memory, 1e-12};
