/* SPDX-License-Identifier: Apache-2.0 */
/* decoder.h - what generation needs of a model: a next-token scorer with slots.
 *
 * Generation is bookkeeping over `run` and `copy`; the model behind them is model.h's KV cache, or
 * in tests a table.  The object is a plain value: copy it, borrow what ctx points to. */
#ifndef MIL_EVAL_DECODER_H
#define MIL_EVAL_DECODER_H

#include "model/model.h"

struct decoder_ops {
    /* As infer_run and infer_copy_slot (model.h). */
    enum mil_status (*run)(void *ctx, const struct infer_call *call, struct mil_error *err);
    void (*copy)(void *ctx, int64_t from, int64_t to, int64_t tokens);
};
struct decoder {
    const struct decoder_ops *ops;
    void *ctx;
    int64_t vocab, slots, length, max_tokens; /* limits of a call, as in infer_options */
    int32_t stop[MODEL_MAX_EOS];              /* tokens that end a sequence */
    size_t n_stop;
};

/* A decoder over an inference state; the state stays the caller's. */
struct decoder decoder_over(const struct model *m, struct infer *infer,
                            const struct infer_options *o);

#endif
