/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - the learning rate of every optimiser step, by the formulas of Hugging Face Trainer.
 *
 * Steps count from 1; the rate of step t is base * lambda(t - 1), the one that step uses and logs.
 */
#ifndef MIL_TRAIN_SCHEDULE_H
#define MIL_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_kind {
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE,
    SCHEDULE_CONSTANT,
    SCHEDULE_CONSTANT_WARMUP
};
struct schedule {
    enum schedule_kind kind;
    double base;
    int64_t warmup, total; /* steps */
};
/* By the configuration's name; REQUIREs one of the table. */
enum schedule_kind schedule_kind_of(const char *name);
/* false: extending a run by more steps leaves the rates of its earlier steps alone. */
bool schedule_depends_on_total(enum schedule_kind kind);
double schedule_rate(const struct schedule *s, int64_t step);
/* Optimiser steps of an epoch: ceil(samples / per_step). */
int64_t schedule_epoch_steps(int64_t samples, int64_t per_step);
/* max_steps where above 0, else ceil(epochs * epoch_steps). */
int64_t schedule_total_steps(int64_t epoch_steps, double epochs, int64_t max_steps);
/* steps where above 0, else ceil(total * ratio). */
int64_t schedule_warmup_steps(int64_t steps, double ratio, int64_t total);

#endif
