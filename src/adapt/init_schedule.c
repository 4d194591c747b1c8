/* SPDX-License-Identifier: Apache-2.0 */
/* init_schedule.c - which modules are decomposed alone by all threads, which side by side.
 *
 * T threads, each with a matrix of its own, lose nothing to synchronisation: side by side is the
 * rule.  T threads on one matrix do the work of SHARED T.  A module goes alone
 *   - when less than SHARED T such matrices fit into the memory budget at once, or
 *   - when that shortens the whole: with five equal matrices on four threads the fifth alone takes
 *     c / (4 SHARED) instead of c.  The number of the largest ones to go alone is chosen by the
 *     length of the schedule that results (largest first, each to the thread that is free first).
 * Small ones never go alone: their factorisations are too small to share, and so their bits do not
 * depend on the number of threads. */
#include <stdlib.h>

#include "adapt/init_run.h"
#include "core/mem.h"

/* Speed of T threads on one matrix, as part of T: products share well, the factorisations of small
 * blocks and the panels of a Cholesky factorisation do not. */
#define SHARED 0.7
/* cost = m n min(m, n) of a matrix of 2^21 elements that is square */
#define SMALL_COST 3.04e9

enum { MAX_THREADS = 256 };

/* All that initialisation may take above the mapped weights: what issue 4 allows at the shapes of a
 * 7B model, where the factors of rank 64 are 440 MiB of it. */
#define ALL_MEMORY ((size_t)3 << 29)
/* For the runtime, the BLAS library's own buffers (32 MiB a thread) and what lies around. */
#define OTHER_MEMORY ((size_t)128 << 20)
/* A budget below this would make every large matrix wait for the others. */
#define LEAST_MEMORY ((size_t)1 << 29)

size_t init_budget(uint64_t factor_bytes) {
    uint64_t taken = factor_bytes + OTHER_MEMORY;
    return taken < ALL_MEMORY - LEAST_MEMORY ? ALL_MEMORY - (size_t)taken : LEAST_MEMORY;
}

double init_shared_speed(int threads) {
    return threads > 1 ? SHARED * threads : 1;
}

static int by_cost(const void *a, const void *b) {
    const struct init_job *x = a, *y = b;
    if (x->alone != y->alone) return x->alone ? -1 : 1;
    if (x->cost != y->cost) return x->cost > y->cost ? -1 : 1;
    return x->position < y->position ? -1 : 1;
}

/* End of the schedule of jobs [first, n) side by side, by falling cost. */
static double length_side_by_side(const struct init_job *jobs, size_t first, size_t n,
                                  int threads) {
    double busy[MAX_THREADS] = {0}, end = 0;
    for (size_t i = first; i < n; i++) {
        int at = 0;
        for (int t = 1; t < threads; t++)
            if (busy[t] < busy[at]) at = t;
        busy[at] += jobs[i].cost;
        if (busy[at] > end) end = busy[at];
    }
    return end;
}

/* How many of the largest of the jobs (by falling cost) to take alone. */
static size_t choose_alone(const struct init_job *jobs, size_t n, int threads) {
    double best = length_side_by_side(jobs, 0, n, threads), before = 0;
    size_t count = 0;
    for (size_t i = 1; i <= n && i < (size_t)threads && jobs[i - 1].cost > SMALL_COST; i++) {
        before += jobs[i - 1].cost / init_shared_speed(threads);
        double length = before + length_side_by_side(jobs, i, n, threads);
        if (length < best) {
            best = length;
            count = i;
        }
    }
    return count;
}

size_t init_schedule(struct init_job *jobs, size_t n, int threads, size_t budget) {
    size_t forced = 0;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    for (size_t i = 0; i < n; i++) {
        size_t fit = jobs[i].bytes ? budget / jobs[i].bytes : n;
        jobs[i].alone = jobs[i].cost > SMALL_COST && (double)fit < init_shared_speed(threads);
        forced += jobs[i].alone;
    }
    qsort(jobs, n, sizeof *jobs, by_cost);
    size_t chosen = choose_alone(jobs + forced, n - forced, threads);
    for (size_t i = 0; i < chosen; i++) jobs[forced + i].alone = true;
    qsort(jobs, n, sizeof *jobs, by_cost);
    return forced + chosen;
}
