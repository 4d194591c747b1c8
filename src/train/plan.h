/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - how much memory a session takes, before anything is reserved, and the two choices that
 * depend on it: tokens per micro-batch and recomputation of activations.
 *
 * The plan walks the very layouts that the run takes its buffers from (arenas in sizing mode) on a
 * skeleton of the model, so it needs config.json alone. */
#ifndef MIL_TRAIN_PLAN_H
#define MIL_TRAIN_PLAN_H

#include "core/arena.h"
#include "train/session.h"

struct backend;
struct memory_plan {
    struct plan plan;
    size_t baseline;    /* program, libraries, tokenizer; the first entry of the plan */
    size_t peak;        /* predicted of the resident set: session + max(step + call, init) */
    size_t available;   /* of the machine, now */
    struct str choices; /* lines, each with its newline */
};
/* The freed parts of the heap are given back to the system first (core/resident.h).
 * Choose s->tokens_per_micro_batch (unless it is set above 0 already: a resumed run's), max_tokens,
 * head_chunk and recompute, and book everything into *out.  memory_plan_release also after failure.
 */
enum mil_status plan_choose(struct session *s, struct backend *b, struct memory_plan *out,
                            struct mil_error *err);
void memory_plan_release(struct memory_plan *p);

#endif
