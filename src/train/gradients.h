/* SPDX-License-Identifier: Apache-2.0 */
/* gradients.h - the gradient of the loss with regard to whole weights of the model, over the samples of a
 * session's first optimiser steps: what LoRA-GA starts from (adapter_init_hooks.gradients).
 *
 * The loss is the mean over the supervised tokens of all those samples together, without adapters and without
 * dropout.  One pass of gradients_add serves as many modules as are asked for; what is not asked for has no
 * gradient, and backward ends below the lowest of them. */
#ifndef MIL_TRAIN_GRADIENTS_H
#define MIL_TRAIN_GRADIENTS_H

#include "adapt/adapter.h"
#include "train/loader.h"
#include "train/session.h"

struct gradients {
    const struct session *session; /* borrowed, as is the model */
    struct model *model;
    struct loader loader;
    struct micro_batch micro;
    struct step_options options;
    int64_t steps;         /* optimiser steps whose samples count: at most an epoch */
    int64_t samples, rows; /* in them; rows: supervised tokens */
    int64_t tokens;
};
/* After plan_choose, and before an adapter is attached to the model.  batches: optimiser steps, from 1 on;
 * MIL_NOMEM. */
enum mil_status gradients_open(struct gradients *g, const struct session *s, struct model *m,
                               int64_t batches, struct mil_error *err);
void gradients_release(struct gradients *g);
/* Add the gradients of the weights of n modules to out[i], host f32 [m, n].  A module's bits do not depend on the
 * others. MIL_NUMERIC names a sample whose loss is not finite; MIL_INTERRUPTED after train_request_stop. */
enum mil_status gradients_add(struct gradients *g, const struct delta *deltas, size_t n,
                              float *const *out, struct mil_error *err);
/* Bytes that gradients_add takes beside `out`, from a skeleton of the model without adapters; the session's
 * micro-batches have been chosen.  loader: NULL without data. */
size_t gradients_bytes(const struct session *s, const struct model *skeleton, struct loader *loader,
                       int64_t batches);

#endif
