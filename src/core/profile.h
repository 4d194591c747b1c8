/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h - where the time of a step goes: calls, nanoseconds and work of every operation, by the
 * phase of the step that it belongs to.
 *
 * One thread queues a run's operations, and that thread switches recording on for itself; what other
 * threads do meanwhile is not counted.  Switched off (the start) an operation costs one load and one
 * branch.  Switched on it costs two readings of the clock and one addition to a fixed table: nothing
 * is allocated.  The times are the caller's: on a backend whose operations return before they are
 * done, whoever records has to wait for each.
 *
 * Phases.  The caller enters one (profile_enter) and goes back to the one before; within a
 * micro-batch, which is entered as PROFILE_FORWARD, the two changes are seen from the products: the
 * head begins with the first one that has the vocabulary's side, the backward pass with the first
 * one after it that has not.  The few row copies and the norm before the head's product count as
 * forward. */
#ifndef MIL_CORE_PROFILE_H
#define MIL_CORE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(enumerator, name) */
#define PROFILE_PHASE_MAP(X)                                                                       \
    X(PROFILE_DATA, "data")                                                                        \
    X(PROFILE_FORWARD, "forward")                                                                  \
    X(PROFILE_HEAD, "head")                                                                        \
    X(PROFILE_BACKWARD, "backward")                                                                \
    X(PROFILE_OPTIMISER, "optimiser")                                                              \
    X(PROFILE_OTHER, "other")

/* X(enumerator, name, unit of its work) */
#define PROFILE_OP_MAP(X)                                                                          \
    X(PROFILE_PRODUCT_FORWARD, "product: weight, forward", PROFILE_FLOPS)                          \
    X(PROFILE_PRODUCT_BACKWARD, "product: weight, backward", PROFILE_FLOPS)                        \
    X(PROFILE_PRODUCT_GRADIENT, "product: weight gradient", PROFILE_FLOPS)                         \
    X(PROFILE_PRODUCT_ADAPTER, "product: adapter", PROFILE_FLOPS)                                  \
    X(PROFILE_PRODUCT_HEAD, "product: head", PROFILE_FLOPS)                                        \
    X(PROFILE_ATTENTION_FORWARD, "attention, forward", PROFILE_FLOPS)                              \
    X(PROFILE_ATTENTION_BACKWARD, "attention, backward", PROFILE_FLOPS)                            \
    X(PROFILE_NORM_FORWARD, "norm, forward", PROFILE_BYTES)                                        \
    X(PROFILE_NORM_BACKWARD, "norm, backward", PROFILE_BYTES)                                      \
    X(PROFILE_ROPE, "rotary embedding", PROFILE_BYTES)                                             \
    X(PROFILE_SWIGLU_FORWARD, "swiglu, forward", PROFILE_BYTES)                                    \
    X(PROFILE_SWIGLU_BACKWARD, "swiglu, backward", PROFILE_BYTES)                                  \
    X(PROFILE_CROSS_ENTROPY, "cross-entropy", PROFILE_BYTES)                                       \
    X(PROFILE_DROPOUT, "dropout", PROFILE_BYTES)                                                   \
    X(PROFILE_BIAS, "bias", PROFILE_BYTES)                                                         \
    X(PROFILE_FACTOR, "row factors", PROFILE_BYTES)                                                \
    X(PROFILE_COPY, "copy, convert, add", PROFILE_BYTES)                                           \
    X(PROFILE_ROWS, "gather, scatter rows", PROFILE_BYTES)                                         \
    X(PROFILE_ZERO, "zero", PROFILE_BYTES)                                                         \
    X(PROFILE_ADAMW, "AdamW", PROFILE_BYTES)                                                       \
    X(PROFILE_IMPORTANCE, "importance", PROFILE_BYTES)                                             \
    X(PROFILE_NORM_OF_GRADIENT, "gradient norm", PROFILE_BYTES)                                    \
    X(PROFILE_BATCH, "micro-batch arrays", PROFILE_BYTES)

enum profile_unit { PROFILE_FLOPS, PROFILE_BYTES };
enum profile_phase {
#define PROFILE_ENUM(name, text) name,
    PROFILE_PHASE_MAP(PROFILE_ENUM)
#undef PROFILE_ENUM
        PROFILE_PHASES
};
enum profile_op {
#define PROFILE_ENUM(name, text, unit) name,
    PROFILE_OP_MAP(PROFILE_ENUM)
#undef PROFILE_ENUM
        PROFILE_OPS
};
const char *profile_phase_name(enum profile_phase phase);
const char *profile_op_name(enum profile_op op);
enum profile_unit profile_op_unit(enum profile_op op);

/* ---- what records ---- */

/* Set every count to 0, and by which sides products are told apart: the vocabulary's is the head's,
 * one of at most twice the rank an adapter's; 0: there is none.  The phase becomes PROFILE_OTHER. */
void profile_reset(int64_t vocab, int64_t rank);
/* The calling thread's operations are recorded from now on, or no longer. */
void profile_record(bool on);
/* The phase until the next call; returns the one before. */
enum profile_phase profile_enter(enum profile_phase phase);

extern _Thread_local bool profile_recording_; /* read through profile_begin only */
int64_t profile_clock(void);                  /* nanoseconds, never 0 */
/* The time now while recording, else 0. */
static inline int64_t profile_begin(void) {
    return profile_recording_ ? profile_clock() : 0;
}
/* One call of op that began at `begun` and did `work` (in op's unit).  begun 0: nothing. */
void profile_end(int64_t begun, enum profile_op op, double work);
/* The same for C[m, n] = op(A) op(B) with sums of length k; ta, tb: A, B transposed. */
void profile_product(int64_t begun, bool ta, bool tb, int64_t m, int64_t n, int64_t k);

/* ---- what was recorded ---- */

struct profile_row {
    enum profile_phase phase;
    enum profile_op op;
    int64_t calls, ns;
    double work;
};
enum { PROFILE_ROWS_MOST = PROFILE_PHASES * PROFILE_OPS };
/* Rows with calls, phase by phase, within a phase by falling time; returns how many. */
size_t profile_rows(struct profile_row out[PROFILE_ROWS_MOST]);

#endif
