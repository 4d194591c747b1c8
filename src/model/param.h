/* SPDX-License-Identifier: Apache-2.0 */
/* param.h - what an optimiser sees of a model: named trainable tensors with their gradients.
 *
 * Whoever trains (an adapter, full fine-tuning) owns a struct trainable; the optimiser walks its
 * params.  What depends on their values is renewed in one of two ways: a copy in the compute type is
 * written by the update itself, everything else by refresh. */
#ifndef MIL_MODEL_PARAM_H
#define MIL_MODEL_PARAM_H

#include <stddef.h>

#include "backend/backend.h"

struct param {
    char name[128];      /* unique; as in the optimiser's state file */
    struct tensor value; /* real; changed by the optimiser */
    struct tensor grad;  /* real, same shape; summed into by the backward pass */
    struct tensor base;  /* frozen part (for weight decay of base + value), or no data */
    struct tensor copy;  /* act: the value rounded, which an update writes beside it; or no data */
    bool decay;          /* weight decay applies (not to norms and biases) */
    double rate;         /* multiple of the learning rate; 0 counts as 1 */
};
struct trainable {
    struct param *params;
    size_t n;
    int64_t elements; /* trainable parameters as PEFT counts them */
    /* After values were changed: renew what depends on them, copies included. */
    void (*refresh)(void *owner, struct stream *s);
    void *owner;
    bool copies_only; /* nothing but the copies depends on values: an update needs no refresh */
};

#endif
