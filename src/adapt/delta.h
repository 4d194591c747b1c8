/* SPDX-License-Identifier: Apache-2.0 */
/* delta.h - one adapted module on a backend: its tensors, and the forward and backward pass of the
 * delta form (delta.c).  runtime.c makes them for a whole model. */
#ifndef MIL_ADAPT_DELTA_H
#define MIL_ADAPT_DELTA_H

#include "adapt/method.h"
#include "model/model.h"

/* k columns of H = [H1 | H2]: 2 r in the pair form, r in the others.
 *
 *              real (masters)              act (operands of products)
 *     a0 [r, n]  da [r, n]  grad_da        a  [k, n] = [A0 + dA ; dA]      (FIXED_B: dA)
 *     b0 [m, r]  db [m, r]  grad_db        b  [m, k] = s [dB | B0]         (FIXED_B: s B0; SCALED: s dB diag(e))
 *     e, pruned [1, r]      grad_e         a0_act [r, n], with dropout and the pair form only
 *     magnitude [1, m]      grad_magnitude
 * grad_db of the SCALED form is that of dB diag(e) until the step's end (adalora.c). */
struct delta_runtime {
    struct linear_adapter adapter; /* first: the model's hook points here */
    enum dtype act, real;
    enum delta_form form;
    bool dora;
    int64_t m, n, r, k;
    double scale, dropout; /* dropout: 0 where it is not trained */
    uint32_t number;       /* of the module, in the random streams */
    bool trainable;
    struct tensor a0, b0, da, db, e, pruned, magnitude;
    struct tensor grad_da, grad_db, grad_e, grad_magnitude;
    struct tensor a, b, a0_act;
    /* with a magnitude: W (borrowed from the model), its squared row norms, the factor f and 1 / magnitude, real
     * [1, m] (dora.c) */
    const struct tensor *w;
    struct tensor row_squares, factor, inverse;
};

/* The delta form by itself; dora_ops puts the factor around it. */
extern const struct linear_adapter_ops delta_ops;
extern const struct linear_adapter_ops dora_ops;

/* Renew the compute copies after the masters changed.  sum: real scratch of at least r * max(n, m) elements,
 * needed where act and real differ. */
void delta_refresh(const struct delta_runtime *d, struct stream *s, struct tensor sum);
/* Those of e and dB only. */
void delta_refresh_b(const struct delta_runtime *d, struct stream *s, struct tensor sum);
/* The copies that never change: those of b0 and a0. */
void delta_refresh_frozen(const struct delta_runtime *d, struct stream *s);
/* dora.c.  The squared norms of the rows of the stored weight w, on the backend; the factor from them and the compute
 * copies; bytes of scratch that this takes.  Both start from the same numbers: at step 0 the factor is exactly 1
 * (in f64 up to the rounding of a magnitude to f32). */
enum mil_status dora_prepare(const struct delta_runtime *d, const struct weight_view *w,
                             struct backend *b, struct mil_error *err);
size_t dora_scratch(const struct delta_runtime *d);
void dora_refresh(const struct delta_runtime *d, struct stream *s, void *scratch);

#endif
