/* SPDX-License-Identifier: Apache-2.0 */
/* trial.h - one matrix through the chain and through every method of it, each result judged by
 * judge.h; failures are printed and counted, figures tallied by method (test_spectra.c,
 * test_spectra_large.c).
 *
 * A method may decline a matrix (MIL_NUMERIC); then the chain has to serve it. */
#ifndef MIL_TESTS_LINALG_TRIAL_H
#define MIL_TESTS_LINALG_TRIAL_H

#include "check.h"

#include "core/threads.h"
#include "linalg/judge.h"

static struct mil_error err;
static const char *only_matrix, *only_method;
static int failures;

/* What is said of a matrix in messages, and the rank asked of it. */
struct trial {
    const char *name;
    const struct svd_matrix *w;
    const struct reference *f;
    int64_t r;
};

enum { METHODS_MAX = 16 };
static struct tally {
    int served, declined, chain;
    double seconds;
    struct figures worst;
} tally[METHODS_MAX];

static inline bool full_method(const char *name) {
    return strncmp(name, "dge", 3) == 0;
}

static inline size_t method_number(const char *name) {
    size_t i = 0;
    while (svd_methods()[i] && strcmp(svd_methods()[i], name) != 0) i++;
    return i;
}

/* ---- one request by one method ---- */

static inline void complain(const struct trial *c, const char *request, int64_t rank,
                            const char *method, const char *text) {
    fprintf(stderr, "FAIL %s (%lld x %lld %s), %s %lld, %s: %s\n", c->name, (long long)c->w->m,
            (long long)c->w->n, dtype_name(c->w->dtype), request, (long long)rank,
            method ? method : "chain", text);
    failures++;
}

static inline void try_method(const struct trial *c, struct svd_request q, const char *method,
                              const char *request) {
    struct svd_result r;
    char text[512];
    int64_t *index = mem_alloc(MEM_OTHER, (size_t)q.rank, sizeof *index);
    q.only = method;
    memset(&err, 0, sizeof err);
    assert_ok(svd_indices(&q, c->w->m, c->w->n, index, &err));
    enum mil_status st = svd_compute(c->w, &q, &r, &err);
    if (st == MIL_NUMERIC && method) {
        tally[method_number(method)].declined++;
        if (only_method) fprintf(stderr, "declined %s: %s\n", request, err.message);
    } else if (st != MIL_OK) {
        complain(c, request, q.rank, method, err.message);
    } else {
        struct tally *t = &tally[method_number(r.served_by)];
        if (method && strcmp(r.served_by, method) != 0)
            complain(c, request, q.rank, method, r.served_by);
        if (judge_result(c->f, index, &r, &t->worst, text, sizeof text))
            complain(c, request, q.rank, method ? method : r.served_by, text);
        *(method ? &t->served : &t->chain) += 1;
        t->seconds += r.seconds;
    }
    svd_release(&r);
    mem_free(index);
}

/* The chain, and each method by itself; LAPACK's own only where that costs nothing, and large
 * matrices by the chain alone unless there is time. */
static inline void try_request(const struct trial *c, struct svd_request q, const char *request) {
    bool small = c->w->m * c->w->n <= 1 << 12,
         methods = c->f->k < 1000 || getenv("MILORA_SLOW") || only_method;
    if (!only_method || strcmp(only_method, "chain") == 0) try_method(c, q, NULL, request);
    for (const char *const *name = svd_methods(); methods && *name; name++)
        if (only_method ? strcmp(only_method, *name) == 0 : small || !full_method(*name))
            try_method(c, q, *name, request);
}

static inline void try_all(const struct trial *c) {
    static const char *const ends[] = {"bottom", "top", "middle", "random"};
    int64_t k = c->f->k, r = c->r, list[5], n = 0,
            wish[] = {0, k / 3, k / 3 + 1, (k + 2) / 2, k - 1};
    for (int i = 0; i < 5; i++)
        if (wish[i] < k && (n == 0 || wish[i] > list[n - 1])) list[n++] = wish[i];
    for (int end = SVD_BOTTOM; end <= SVD_RANDOM; end++)
        if (end < SVD_RANDOM || k < 1000)
            try_request(c, (struct svd_request){.end = (enum svd_end)end, .rank = r, .seed = 3},
                        ends[end]);
    if (k >= 1000) return; /* time: the methods for ends and middle begin here */
    try_request(c, (struct svd_request){.end = SVD_CHOSEN, .rank = n, .chosen = list}, "chosen");
    if (k > 300) return;
    try_request(c, (struct svd_request){.end = SVD_BOTTOM, .rank = 1}, "bottom");
    try_request(c, (struct svd_request){.end = SVD_TOP, .rank = 1}, "top");
    if (k <= 64) try_request(c, (struct svd_request){.end = SVD_MIDDLE, .rank = k}, "all");
}

/* The end of the program: what each method did. */
static inline int report(void **state) {
    (void)state;
    printf("%-12s %7s %8s %7s %8s  %-7s %-8s %-7s %-7s  sine where 1e-8 is due, over its bound\n",
           "method", "served", "declined", "chain", "seconds", "sigma", "residual", "orthog.",
           "cut");
    for (size_t i = 0; svd_methods()[i] && i < METHODS_MAX; i++) {
        const struct tally *t = &tally[i];
        printf("%-12s %7d %8d %7d %8.2f  %-7.1g %-8.1g %-7.1g %-7.1g  %.1g, %.2g\n",
               svd_methods()[i], t->served, t->declined, t->chain, t->seconds, t->worst.sigma,
               t->worst.residual, t->worst.orthogonality, t->worst.cut, t->worst.sine,
               t->worst.of_bound);
    }
    return 0;
}

#endif
