/* SPDX-License-Identifier: Apache-2.0 */
/* adalora.h - AdaLoRA's part of an optimiser step (adalora.c): penalty, importance, masks; and its budget of ranks
 * (adalora_budget.c). */
#ifndef MIL_ADAPT_ADALORA_H
#define MIL_ADAPT_ADALORA_H

#include "adapt/adapter.h"

extern const struct method_step adalora_step;

/* The schedule with everything chosen that the options leave open; steps count from 1 and are those that the update of
 * the same number ends. */
struct adalora_schedule {
    int64_t tinit, /* up to here all ranks stay */
        last,      /* the last reduction */
        every;     /* steps between reductions */
};
struct adalora_schedule adalora_schedule_of(const struct adalora_options *o, int64_t total_steps);
/* How many entries of Lambda stay after `step`, of `first` at the start and `target` at the end; *due: masks are chosen
 * after this step. */
int64_t adalora_budget(const struct adalora_schedule *s, int64_t step, int64_t first,
                       int64_t target, bool *due);
/* pruned[i] = 1 for the n - budget smallest of n scores and what equals the largest of those, 0 for the others.
 * sorted: scratch of n. */
void adalora_choose(const double *score, size_t n, int64_t budget, double *sorted, bool *pruned);

#endif
