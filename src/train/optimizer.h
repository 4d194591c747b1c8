/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer.h - AdamW over a list of trainable tensors: moments, global-norm clipping, the check
 * for gradients that never arrive.  The arithmetic itself is the backend's (be_adamw). */
#ifndef MIL_TRAIN_OPTIMIZER_H
#define MIL_TRAIN_OPTIMIZER_H

#include "model/param.h"

struct optimizer {
    struct trainable *trainable; /* borrowed */
    struct backend *backend;     /* borrowed */
    struct tensor *m, *v;        /* first and second moments, one pair a param, in one slab */
    double *squares;             /* sum of squares of each gradient, by optimizer_norm */
    void *slab;
};
struct optimizer_rates {
    double lr, beta1, beta2, eps, weight_decay, max_norm; /* max_norm 0: no clipping */
};

/* Moments start at 0.  optimizer_release also after failure. */
enum mil_status optimizer_init(struct optimizer *o, struct trainable *t, struct backend *b,
                               struct mil_error *err);
void optimizer_release(struct optimizer *o);
/* Bytes of both moments of n params with `elements` elements together. */
size_t optimizer_bytes(int64_t elements, size_t n, enum dtype real);
void optimizer_zero_grads(struct optimizer *o);
/* Norm of all gradients as one vector; fills squares.  NaN and infinity come through. */
double optimizer_norm(struct optimizer *o);
/* What clipping multiplies gradients by: min(1, max_norm / (norm + 1e-6)); 1 where max_norm is 0. */
double optimizer_clip(double norm, double max_norm);
/* Update number `step` (from 1), gradients scaled by min(1, max_norm / (norm + 1e-6)). */
void optimizer_step(struct optimizer *o, int64_t step, double norm,
                    const struct optimizer_rates *rates);
/* Names of params whose last gradient was exactly zero into a comma-separated list (cut after a
 * few) and how many there are.  skip: NULL-terminated suffixes of names to leave out, or NULL. */
size_t optimizer_dead(const struct optimizer *o, const char *const *skip, char *out, size_t cap);

#endif
