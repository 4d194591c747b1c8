/* SPDX-License-Identifier: Apache-2.0 */
/* apply.h - an adapter by itself: its terms alone, added to what is there. */
#ifndef MIL_TESTS_ADAPT_APPLY_H
#define MIL_TESTS_ADAPT_APPLY_H

#include "model/model.h"

/* y += contribution; y: real. */
static inline void apply_forward(const struct linear_adapter *l, const struct adapter_context *ctx,
                                 struct tensor x, struct tensor y, struct adapter_saved *saved) {
    struct product_sum sum = {.c = y, .alpha = 1.0, .beta = 1.0, .d = y};
    size_t mark = arena_mark(ctx->call);
    l->ops->forward(l, ctx, x, saved, &sum);
    be_products(ctx->stream, &sum, 1);
    arena_rewind(ctx->call, mark);
}

/* dx += contribution, parameter gradients += ...; dx: real. */
static inline void apply_backward(const struct linear_adapter *l, const struct adapter_context *ctx,
                                  struct tensor x, struct tensor dy, struct tensor dx,
                                  const struct adapter_saved *saved) {
    struct product_terms terms = {.n = 0};
    struct tensor none = {0};
    size_t mark = arena_mark(ctx->call);
    l->ops->backward(l, ctx, x, dy, saved, &terms);
    be_product(ctx->stream, dx, 1.0, &terms, 1.0, dx, none);
    arena_rewind(ctx->call, mark);
}

#endif
