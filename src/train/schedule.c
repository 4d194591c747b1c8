/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - lambda(c) for c steps done, w of warm-up, n in all:
 *     c < w:            c / max(1, w)           (linear, cosine, constant_with_warmup)
 *     linear:           max(0, (n - c) / max(1, n - w))
 *     cosine:           max(0, (1 + cos(pi (c - w) / max(1, n - w))) / 2)
 *     constant:         1
 * Evaluated in the same order of operations as transformers.optimization, so that the values agree
 * to the last bit of a double. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

#include "core/error.h"

enum schedule_kind schedule_kind_of(const char *name) {
    static const char *const names[] = {"linear", "cosine", "constant", "constant_with_warmup"};
    size_t i = 0;
    while (i < 4 && strcmp(name, names[i])) i++;
    REQUIRE(i < 4);
    return (enum schedule_kind)i;
}

bool schedule_depends_on_total(enum schedule_kind kind) {
    return kind == SCHEDULE_LINEAR || kind == SCHEDULE_COSINE;
}

static double at_least_one(int64_t n) {
    return (double)(n > 1 ? n : 1);
}

static double lambda(const struct schedule *s, int64_t done) {
    if (s->kind == SCHEDULE_CONSTANT) return 1;
    if (done < s->warmup) return (double)done / at_least_one(s->warmup);
    if (s->kind == SCHEDULE_CONSTANT_WARMUP) return 1;
    if (s->kind == SCHEDULE_LINEAR)
        return fmax(0, (double)(s->total - done) / at_least_one(s->total - s->warmup));
    double progress = (double)(done - s->warmup) / at_least_one(s->total - s->warmup);
    /* pi * cycles * 2 * progress with half a cycle, in that order. */
    return fmax(0, 0.5 * (1.0 + cos(M_PI * 0.5 * 2.0 * progress)));
}

double schedule_rate(const struct schedule *s, int64_t step) {
    REQUIRE(step >= 1);
    return s->base * lambda(s, step - 1);
}

int64_t schedule_epoch_steps(int64_t samples, int64_t per_step) {
    return samples / per_step + (samples % per_step != 0);
}

int64_t schedule_total_steps(int64_t epoch_steps, double epochs, int64_t max_steps) {
    if (max_steps > 0) return max_steps;
    double total = ceil(epochs * (double)epoch_steps);
    return total < 0x1p53 ? (int64_t)total : (int64_t)1 << 53;
}

int64_t schedule_warmup_steps(int64_t steps, double ratio, int64_t total) {
    return steps > 0 ? steps : (int64_t)ceil((double)total * ratio);
}
