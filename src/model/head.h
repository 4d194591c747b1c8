/* SPDX-License-Identifier: Apache-2.0 */
/* head.h - final norm, LM head, cross-entropy and their gradients, on chosen rows only and in
 * chunks (internal to src/model). */
#ifndef MIL_MODEL_HEAD_H
#define MIL_MODEL_HEAD_H

#include "model/model.h"

/* Buffers of one chunk of rows: x, dn, dx real [n, C]; normed act [n, C]; logits real [n, V];
 * dlogits act [n, V].  Those of the gradient are there only if asked for. */
struct head_scratch {
    struct tensor x, normed, rstd, logits, dlogits, dn, dx;
};
void head_layout(const struct model *m, int64_t rows, bool gradient, struct arena *a,
                 struct head_scratch *out);
/* Logits of rows index[0..n) of x, n <= the scratch's rows, into the first n rows of
 * scratch->logits. */
void head_logits(struct model *m, struct stream *s, struct tensor x, const int32_t *index,
                 int64_t n, struct head_scratch *scratch);
/* loss[i] of the i-th supervised row of b; x: the last residual, real [T, C].  With dx (real [T,
 * C], zeroed by the caller): its rows get their gradients, scaled by b->loss_scale, and the head's
 * and final norm's gradients are summed into where the model has them. */
void head_loss(struct model *m, struct stream *s, const struct batch *b, struct tensor x,
               struct tensor loss, struct tensor dx, struct head_scratch *scratch);

#endif
