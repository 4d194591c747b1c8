/* SPDX-License-Identifier: Apache-2.0 */
/* decoder.c - the model's inference state as a decoder. */
#include "eval/decoder.h"

static enum mil_status run(void *ctx, const struct infer_call *call, struct mil_error *err) {
    return infer_run(ctx, call, err);
}

static void copy(void *ctx, int64_t from, int64_t to, int64_t tokens) {
    infer_copy_slot(ctx, from, to, tokens);
}

struct decoder decoder_over(const struct model *m, struct infer *infer,
                            const struct infer_options *o) {
    static const struct decoder_ops ops = {.run = run, .copy = copy};
    struct decoder d = {.ops = &ops,
                        .ctx = infer,
                        .vocab = m->config.vocab,
                        .slots = o->slots,
                        .length = o->length,
                        .max_tokens = o->max_tokens};
    for (int i = 0; i < m->config.n_eos; i++) d.stop[d.n_stop++] = m->config.eos[i];
    return d;
}
