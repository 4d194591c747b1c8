/* SPDX-License-Identifier: Apache-2.0 */
/* sampler.h - the next token from a row of logits.
 *
 * All functions are pure; the random number comes from the caller, who keys it (generate.h).  NaN
 * or +infinity among the logits is MIL_NUMERIC; -infinity is a probability of 0. */
#ifndef MIL_EVAL_SAMPLER_H
#define MIL_EVAL_SAMPLER_H

#include <stdint.h>

#include "core/error.h"

/* The largest logit; the smallest id where several are equal. */
enum mil_status sample_greedy(const float *logits, int64_t vocab, int32_t *id,
                              struct mil_error *err);

/* Draw from softmax(logits / temperature), restricted to the nucleus: tokens in descending order of
 * probability (ties: smaller id first) as long as the sum before them is below top_p; at least one.
 * top_p >= 1: no restriction.  u: uniform in (0, 1).  scratch: room for vocab ids.
 * temperature > 0. */
enum mil_status sample_nucleus(const float *logits, int64_t vocab, double temperature, double top_p,
                               double u, int32_t *scratch, int32_t *id, struct mil_error *err);

/* log(sum(exp(logits))) in double; MIL_NUMERIC as above. */
enum mil_status log_sum_exp(const float *logits, int64_t vocab, double *out, struct mil_error *err);

#endif
