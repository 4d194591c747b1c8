/* SPDX-License-Identifier: Apache-2.0 */
/* delta.h - one adapted module on a backend: its tensors, and the forward and backward pass of the
 * delta form (delta.c).  runtime.c makes them for a whole model. */
#ifndef MIL_ADAPT_DELTA_H
#define MIL_ADAPT_DELTA_H

#include "model/model.h"

/* k columns of H = [H1 | H2]: r for plain LoRA (only H1), 2 r with B0.
 *
 *              real (masters)              act (operands of products)
 *     a0 [r, n]  da [r, n]  grad_da        a  [k, n] = [A0 + dA ; dA]
 *     b0 [m, r]  db [m, r]  grad_db        b  [m, k] = s [dB | B0]
 *                                          a0_act [r, n], with dropout and B0 only */
struct delta_runtime {
    struct linear_adapter adapter; /* first: the model's hook points here */
    enum dtype act, real;
    int64_t m, n, r, k;
    double scale, dropout; /* dropout: 0 where it is not trained */
    uint32_t number;       /* of the module, in the random streams */
    bool trainable;
    struct tensor a0, b0, da, db, grad_da, grad_db;
    struct tensor a, b, a0_act;
};

extern const struct linear_adapter_ops delta_ops;

/* Renew the compute copies after da or db changed.  sum: real scratch of at least r * n elements,
 * needed where act and real differ. */
void delta_refresh(const struct delta_runtime *d, struct stream *s, struct tensor sum);
/* The copies that never change: those of b0 and a0. */
void delta_refresh_frozen(const struct delta_runtime *d, struct stream *s);

#endif
