/* SPDX-License-Identifier: Apache-2.0 */
/* svd.c - the chain of methods: which triplets are meant, who may serve, what passes. */
#include "linalg/svd.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "core/threads.h"
#include "linalg/internal.h"

static const struct svd_method *const chain[] = {&method_krylov, &method_slice, &method_tridiagonal,
                                                 &method_gesdd, &method_gesvd};
enum { METHODS = sizeof chain / sizeof *chain };

const char *const *svd_methods(void) {
    static const char *names[METHODS + 1];
    for (size_t i = 0; i < METHODS; i++) names[i] = chain[i]->name;
    return names;
}

/* ---- which triplets ---- */

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static enum mil_status draw(const struct svd_request *q, int64_t k, int64_t *index,
                            struct mil_error *err) {
    int64_t *order = mem_alloc(MEM_SCRATCH, (size_t)k, sizeof *order);
    if (!order) return error_nomem(err, (uint64_t)k * sizeof *order);
    rng_permutation(q->seed, rng_stream(RNG_SELECT, q->stream), 0, k, order);
    memcpy(index, order, (size_t)q->rank * sizeof *index);
    mem_free(order);
    qsort(index, (size_t)q->rank, sizeof *index, ascending);
    return MIL_OK;
}

static enum mil_status copy_chosen(const struct svd_request *q, int64_t k, int64_t *index,
                                   struct mil_error *err) {
    for (int64_t i = 0; i < q->rank; i++) {
        index[i] = q->chosen[i];
        if (index[i] < 0 || index[i] >= k || (i > 0 && index[i] <= index[i - 1]))
            return error_set(
                err, MIL_USAGE,
                "singular triplet %lld (number %lld of the list): the list must ascend "
                "within 0 to %lld",
                (long long)index[i], (long long)i, (long long)(k - 1));
    }
    return MIL_OK;
}

static enum mil_status check_rank(int64_t rank, int64_t m, int64_t n, struct mil_error *err) {
    int64_t k = m < n ? m : n;
    if (rank >= 1 && rank <= k) return MIL_OK;
    return error_set(err, MIL_USAGE,
                     "%lld singular triplets asked of a %lld x %lld matrix: choose 1 to %lld",
                     (long long)rank, (long long)m, (long long)n, (long long)k);
}

enum mil_status svd_indices(const struct svd_request *q, int64_t m, int64_t n, int64_t *index,
                            struct mil_error *err) {
    int64_t k = m < n ? m : n, first = 0;
    TRY(check_rank(q->rank, m, n, err));
    if (q->end == SVD_RANDOM) return draw(q, k, index, err);
    if (q->end == SVD_CHOSEN) return copy_chosen(q, k, index, err);
    if (q->end == SVD_BOTTOM) first = k - q->rank;
    if (q->end == SVD_MIDDLE) first = (k - q->rank) / 2;
    for (int64_t i = 0; i < q->rank; i++) index[i] = first + i;
    return MIL_OK;
}

/* ---- the chain ---- */

/* What the indices may be uncertain by: that of LAPACK, k eps, is below. */
static const double accept_cut = 1e-10;

/* One method, from its run to the certificate. */
static enum mil_status attempt(const struct svd_method *method, const struct svd_matrix *w,
                               const int64_t *index, double frobenius, struct svd_result *out,
                               struct mil_error *err) {
    TRY(method->run(w, index, frobenius, out, err));
    TRY(result_certify(w, out, err));
    if (!(out->cut <= accept_cut))
        return error_set(err, MIL_NUMERIC,
                         "SVD of a %lld x %lld matrix: %s tells its triplets from others only to "
                         "%.2g of the largest value, the limit is %.0g",
                         (long long)out->m, (long long)out->n, method->name, out->cut, accept_cut);
    if (!(out->residual <= method->accept && out->orthogonality <= method->accept))
        return error_set(err, MIL_NUMERIC,
                         "SVD of a %lld x %lld matrix: %s left residual %.2g and orthogonality "
                         "error %.2g, the limit is %.0g",
                         (long long)out->m, (long long)out->n, method->name, out->residual,
                         out->orthogonality, method->accept);
    out->served_by = method->name;
    return MIL_OK;
}

static enum mil_status check_only(const char *only, struct mil_error *err) {
    for (size_t i = 0; only && i < METHODS; i++)
        if (strcmp(only, chain[i]->name) == 0) return MIL_OK;
    return only ? error_set(err, MIL_USAGE, "no method of decomposition is named '%s'", only)
                : MIL_OK;
}

static enum mil_status run_chain(const struct svd_matrix *w, const struct svd_request *q,
                                 const int64_t *index, double frobenius, struct svd_result *out,
                                 struct mil_error *err) {
    enum mil_status st = MIL_NUMERIC;
    for (size_t i = 0; st == MIL_NUMERIC && i < METHODS; i++) {
        bool named = q->only && strcmp(q->only, chain[i]->name) == 0;
        if (q->only ? !named : !chain[i]->suits(w, index, q->rank)) continue;
        st = attempt(chain[i], w, index, frobenius, out, err);
    }
    return st;
}

enum mil_status svd_compute(const struct svd_matrix *w, const struct svd_request *q,
                            struct svd_result *out, struct mil_error *err) {
    double start = clock_seconds(), frobenius;
    memset(out, 0, sizeof *out);
    TRY(matrix_check(w, &frobenius, err));
    TRY(check_only(q->only, err));
    TRY(check_rank(q->rank, w->m, w->n, err));
    int64_t *index = mem_alloc(MEM_SCRATCH, (size_t)q->rank, sizeof *index);
    if (!index) return error_nomem(err, (uint64_t)q->rank * sizeof *index);
    enum mil_status st;
    TRY_GOTO(svd_indices(q, w->m, w->n, index, err));
    TRY_GOTO(result_new(w, q->rank, out, err));
    TRY_GOTO(run_chain(w, q, index, frobenius, out, err));
    out->seconds = clock_seconds() - start;
fail:
    mem_free(index);
    if (st != MIL_OK) svd_release(out);
    return st;
}

size_t svd_memory(int64_t m, int64_t n, const struct svd_request *q) {
    struct svd_matrix w = {NULL, DT_F32, m, n};
    size_t bytes = 0, i = 0;
    if (check_rank(q->rank, m, n, NULL) != MIL_OK) return 0;
    int64_t *index = mem_alloc(MEM_SCRATCH, (size_t)q->rank, sizeof *index);
    if (index && svd_indices(q, m, n, index, NULL) == MIL_OK) {
        while (i + 1 < METHODS && !chain[i]->suits(&w, index, q->rank)) i++;
        bytes = chain[i]->memory(m, n, q->rank);
    }
    mem_free(index);
    return bytes;
}

/* ---- values only ---- */

enum mil_status svd_values(const struct svd_matrix *w, double *sigma, struct mil_error *err) {
    double frobenius;
    TRY(matrix_check(w, &frobenius, err));
    return values_all(w, sigma, err);
}
