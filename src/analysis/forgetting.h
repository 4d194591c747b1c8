/* SPDX-License-Identifier: Apache-2.0 */
/* forgetting.h - how far a changed model's next-token distributions are from the base's on a text.
 *
 * The base and everything that is compared with it see the same tokens; what is measured is defined in
 * milora/analyze.h and docs/analysis.md. */
#ifndef MIL_ANALYSIS_FORGETTING_H
#define MIL_ANALYSIS_FORGETTING_H

#include "adapt/adapter.h"
#include "eval/corpus.h"
#include "milora/analyze.h"
#include "model/model.h"

/* Compared with the base: an adapter of it, which is attached while it runs, or else a model of its own. */
struct forgetting_subject {
    const char *name;        /* for messages */
    struct adapter *adapter; /* or NULL */
    struct model *model;     /* where there is no adapter; the base's vocabulary */
};
/* All borrowed; nothing may be attached to the base. */
struct forgetting_job {
    struct model *base;
    const struct corpus *text; /* one token or more */
    int64_t window;            /* tokens, from 1 to the positions of every model */
    int64_t max_tokens;        /* the first so many of the text; 0: all of them */
    int64_t call_tokens;       /* at once, 0: 256; never changes the result */
    const struct forgetting_subject *subjects;
    size_t n; /* 1 or more */
};
/* out: n of them, in order.  MIL_NUMERIC names the subject and the token where a logit is not finite;
 * MIL_INTERRUPTED when fn asked to stop.  Memory: keys and values of a window for the base and each subject, and
 * the logits of 2 call_tokens tokens. */
enum mil_status forgetting_measure(const struct forgetting_job *job, mil_eval_progress_fn fn,
                                   void *ctx, struct mil_forgetting *out, struct mil_error *err);

/* ---- parts, for the tests ---- */

/* sum: over v of e_v = exp(p_v - max p); dot: of e_v (q_v - max q). */
struct forgetting_moments {
    double sum, dot;
};
struct forgetting_moments forgetting_moments(const float *p, const float *q, int64_t n);
/* - sum over v of softmax(p)_v log softmax(q)_v in nats, n logits each, n >= 1; NaN where a logit is not finite. */
double forgetting_row(const float *p, const float *q, int64_t n);

#endif
