/* SPDX-License-Identifier: Apache-2.0 */
/* init_run.h - making the factors of all modules of an adapter; private to src/adapt. */
#ifndef MIL_ADAPT_INIT_RUN_H
#define MIL_ADAPT_INIT_RUN_H

#include "adapt/adapter.h"

/* One module to be made. */
struct init_job {
    size_t position; /* in adapter->deltas */
    double cost;     /* in proportion to the seconds that one thread takes */
    size_t bytes;    /* scratch and result */
    bool alone;      /* with all threads, nothing beside it */
};
/* Order of the jobs (those alone first, each part by falling cost), and which go alone; a function
 * of shapes, method, rank and threads only.  Returns the number of those alone. */
size_t init_schedule(struct init_job *jobs, size_t n, int threads, size_t budget);
/* What all threads on one matrix do in one second, in seconds of one thread. */
double init_shared_speed(int threads);
/* Scratch that may be in use at once beside an adapter with that many bytes of A0 and B0. */
size_t init_budget(uint64_t factor_bytes);

/* ---- gradients, for methods that need them (init_gradients.c) ---- */

/* Those of modules [first, first + n) of an adapter. */
struct init_gradients {
    float *slab, **of; /* of[i]: f32 [m, n] of module first + i */
    size_t first, n;
    double seconds; /* that computing them took */
};
/* End of the group that begins with module `first`: as many as fit into `budget` bytes, at least one. */
size_t init_group_end(const struct delta *deltas, size_t n, size_t first, size_t budget);
/* Zeroed gradients of modules [first, end). */
enum mil_status init_gradients_open(struct init_gradients *g, const struct adapter *a, size_t first,
                                    size_t end, struct mil_error *err);
void init_gradients_release(struct init_gradients *g);
/* Fill them by the hook.  MIL_USAGE where there is none. */
enum mil_status init_gradients_run(struct init_gradients *g, const struct adapter *a,
                                   const struct adapter_init_hooks *hooks, struct mil_error *err);

/* Fill what every delta of a starts from. */
enum mil_status init_run(struct adapter *a, const struct checkpoint *base,
                         const struct adapter_init_hooks *hooks, struct mil_error *err);

#endif
