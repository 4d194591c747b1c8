/* SPDX-License-Identifier: Apache-2.0 */
/* adalora_budget.c - how many entries of all Lambda together may stay after each step, and which (AdaLoRA, Zhang et al.
 * 2023, equation 12 and algorithm 1), with the arithmetic of PEFT's RankAllocator.
 *
 *   t <= tinit:           all
 *   tinit < t <= last:    int( target + (first - target) (1 - (t - tinit) / (last - tinit))^3 ),  last = total - tfinal
 *   t > last:             target
 *
 * Masks are chosen where t is a multiple of deltaT in the middle phase, and at t = last in any case. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adalora.h"

struct adalora_schedule adalora_schedule_of(const struct adalora_options *o, int64_t total_steps) {
    int64_t tfinal = o->tfinal >= 0 ? o->tfinal : 3 * total_steps / 10;
    struct adalora_schedule s = {.tinit = o->tinit >= 0 ? o->tinit : total_steps / 10,
                                 .last = total_steps - tfinal,
                                 .every = o->delta_t > 0 ? o->delta_t : total_steps / 100};
    if (s.every < 1) s.every = 1;
    return s;
}

int64_t adalora_budget(const struct adalora_schedule *s, int64_t step, int64_t first,
                       int64_t target, bool *due) {
    *due = step > s->tinit && step <= s->last && (step % s->every == 0 || step == s->last);
    if (step <= s->tinit) return first;
    if (step > s->last) return target;
    double left = 1 - (double)(step - s->tinit) / (double)(s->last - s->tinit);
    return (int64_t)((double)(first - target) * pow(left, 3.0) + (double)target);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void adalora_choose(const double *score, size_t n, int64_t budget, double *sorted, bool *pruned) {
    memset(pruned, 0, n * sizeof *pruned);
    if (budget >= (int64_t)n) return;
    memcpy(sorted, score, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    double threshold = sorted[n - (size_t)(budget > 0 ? budget : 0) - 1];
    for (size_t i = 0; i < n; i++) pruned[i] = score[i] <= threshold;
}

enum mil_status adapter_check_schedule(const struct adapter_options *o, int64_t total_steps,
                                       struct mil_error *err) {
    struct adapter_options resolved;
    const struct method *method;
    TRY(adapter_resolve(o, &resolved, &method, err));
    if (method->form != DELTA_SCALED || total_steps < 1) return MIL_OK;
    if (resolved.adalora.init_r < resolved.adalora.target_r)
        return error_set(
            err, MIL_USAGE,
            "init_r is %lld: ranks are reduced from there to target_r on average, so it "
            "must be at least %lld",
            (long long)resolved.adalora.init_r, (long long)resolved.adalora.target_r);
    struct adalora_schedule s = adalora_schedule_of(&resolved.adalora, total_steps);
    if ((s.tinit < s.last && s.last >= 2) || resolved.adalora.tfinal == ADALORA_FINAL)
        return MIL_OK;
    return error_set(
        err, MIL_USAGE,
        "method '%s' reduces ranks between step tinit = %lld and step total - tfinal = "
        "%lld of %lld, by what it measured before: that leaves none; lower tinit or "
        "tfinal, or train for more steps",
        method->name, (long long)s.tinit, (long long)s.last, (long long)total_steps);
}

/* Entries of all Lambda at the start, and at the end: target_r a module. */
static void budgets(const struct adapter *a, int64_t *first, int64_t *target) {
    *first = 0;
    for (size_t i = 0; i < a->n; i++) *first += a->deltas[i].r;
    *target = a->options.adalora.target_r * (int64_t)a->n;
}

int64_t adapter_budget(const struct adapter *a, int64_t step, int64_t total_steps, bool *due) {
    int64_t first, target;
    *due = false;
    if (!a->method || a->method->form != DELTA_SCALED) return 0;
    budgets(a, &first, &target);
    struct adalora_schedule s = adalora_schedule_of(&a->options.adalora, total_steps);
    return adalora_budget(&s, step, first, target, due);
}

int64_t adapter_module_rank(const struct adapter *a, size_t i) {
    const struct delta *d = &a->deltas[i];
    int64_t rank = d->r;
    for (int64_t j = 0; d->pruned && j < d->r; j++) rank -= d->pruned[j] != 0;
    return rank;
}
