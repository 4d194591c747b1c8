/* SPDX-License-Identifier: Apache-2.0 */
/* threads.c - see threads.h. */
#include "core/threads.h"

#include <omp.h>
#include <sched.h>
#include <time.h>

static int count_;

static int allowed_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return omp_get_num_procs();
}

void threads_set(int n) {
    count_ = n > 0 ? n : allowed_processors();
    omp_set_dynamic(0);
    omp_set_num_threads(count_);
}

int threads_count(void) {
    if (count_ == 0) threads_set(0);
    return count_;
}

int threads_index(void) {
    return omp_get_thread_num();
}

void parallel_for(int64_t n, int64_t grain, parallel_fn fn, void *ctx) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    int64_t chunks = (n + grain - 1) / grain;
    int threads = threads_count();
    if (chunks == 1 || threads == 1 || omp_in_parallel()) {
        for (int64_t c = 0; c < chunks; c++)
            fn(ctx, c * grain, (c + 1) * grain < n ? (c + 1) * grain : n);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t c = 0; c < chunks; c++)
        fn(ctx, c * grain, (c + 1) * grain < n ? (c + 1) * grain : n);
}

double clock_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
