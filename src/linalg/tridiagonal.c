/* SPDX-License-Identifier: Apache-2.0 */
/* tridiagonal.c - any set of triplets without a full decomposition: the Gram matrix in f64 is
 * reduced to tridiagonal form, and the asked vectors alone are computed and refined
 * (tridiagonal_reduce.c).
 *
 * Which indices.  The block of the asked values and of the guards beside them is refined as a whole,
 * and its sorted values are given to its sorted indices.  Inside of the block each value is right to
 * its residual rho (Weyl's inequality); those outside are known to eta from G alone:
 *     |lambda_j - s_j^2| <= eta = k eps s_0^2.
 * From both follows how far a value that is not handed out may lie inside a run of those that are;
 * that is `cut`. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "core/threads.h"
#include "linalg/tridiagonal.h"

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
static void hand_out(struct reduction *t, const int64_t *index, double residual, double *refined,
                     struct svd_result *out) {
    size_t k = (size_t)t->k, l = (size_t)long_side(t->w);
    double s0 = sqrt(t->largest), rho = residual * s0, cut = 0;
    int64_t rank = out->rank;
    for (int j = 0, n = t->p; j < t->k; j++) { /* sigma descends: the last is the lowest number */
        if (t->in[j]) refined[j] = t->sigma[--n];
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
}

static enum mil_status run(const struct svd_matrix *w, const int64_t *index, double frobenius,
                           struct svd_result *out, struct mil_error *err) {
    struct reduction t;
    enum mil_status st;
    double residual = 0;
    if (w->m > INT_MAX || w->n > INT_MAX || !reduction_in_range(w, frobenius))
        return error_set(err, MIL_NUMERIC,
                         "SVD of a %lld x %lld matrix of norm %.3g: out of range for a Gram matrix",
                         (long long)w->m, (long long)w->n, frobenius);
    TRY_GOTO(reduction_run(w, 0, &t, err));
    TRY_GOTO(reduction_refine(&t, index, out->rank, 1e-14, &residual, err));
    hand_out(&t, index, residual, t.work, out);
fail:
    reduction_release(&t);
    return st;
}

/* Below k = 16 the full decomposition is as fast.  Above, its time meets this method's at rank k / 3.5
 * for square matrices and beyond k / 2 where one side is twice the other (k = 192, 576). */
static bool suits(const struct svd_matrix *w, const int64_t *index, int64_t rank) {
    (void)index;
    int64_t k = short_side(w), share = 2 * long_side(w) >= 3 * k ? 2 : 4;
    return k >= 16 && share * rank <= k;
}

/* G; a panel of W; blocks of vectors and the result; the bands of a factorisation for each thread
 * where the reduction stops at a band of 32. */
static size_t memory(int64_t m, int64_t n, int64_t rank) {
    int64_t k = m < n ? m : n, p = rank + 64 < k ? rank + 64 : k;
    int64_t bands = k < 3072 ? 80 * k : (100 + 200 * (int64_t)threads_count()) * k;
    return (size_t)(k * k + bands + (int64_t)(1 << 21) + (3 * p + rank) * (m + n)) * sizeof(double);
}

const struct svd_method method_tridiagonal = {"tridiagonal", suits, run, memory, 1e-12};
