/* SPDX-License-Identifier: Apache-2.0 */
/* fake.h - a decoder without a model: logits are a hash of the whole sequence, so that any mistake
 * with slots, positions or copies changes what is generated.
 *
 * Every call is checked: slots distinct, `past` equal to what the slot holds (or 0), limits kept.
 * sharpness scales the logits; end_bias is added to token END's. */
#ifndef MIL_TESTS_EVAL_FAKE_H
#define MIL_TESTS_EVAL_FAKE_H

#include "check.h"

#include "core/rng.h"
#include "eval/decoder.h"

#define FAKE_VOCAB 17
#define FAKE_SLOTS 24
#define FAKE_LENGTH 96
#define FAKE_END 3

struct fake {
    int64_t held[FAKE_SLOTS];
    int32_t ids[FAKE_SLOTS][FAKE_LENGTH];
    double sharpness, end_bias;
    int64_t calls, tokens, most_seqs;
    bool nan_at_length_9;
};

static inline void fake_logits(const struct fake *f, const int32_t *ids, int64_t n, float *row) {
    uint64_t h = 1469598103934665603u;
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint64_t)ids[i]) * 1099511628211u;
    for (int v = 0; v < FAKE_VOCAB; v++)
        row[v] = (float)(f->sharpness * rng_normal(h, rng_stream(RNG_TEST, 1), 0, (uint64_t)v));
    row[FAKE_END] += (float)f->end_bias;
    if (f->nan_at_length_9 && n == 9) row[5] = (float)NAN;
}

static inline enum mil_status fake_run(void *ctx, const struct infer_call *call,
                                       struct mil_error *err) {
    (void)err;
    struct fake *f = ctx;
    const int32_t *ids = call->ids;
    bool seen[FAKE_SLOTS] = {false};
    f->calls++;
    if (call->n_seqs > f->most_seqs) f->most_seqs = call->n_seqs;
    for (int64_t i = 0; i < call->n_seqs; i++) {
        int32_t s = call->slot[i];
        assert_in_range(s, 0, FAKE_SLOTS - 1);
        assert_false(seen[s]);
        seen[s] = true;
        assert_true(call->n[i] >= 1);
        assert_true(call->past[i] <= f->held[s]);
        assert_true(call->past[i] + call->n[i] <= FAKE_LENGTH);
        memcpy(f->ids[s] + call->past[i], ids, (size_t)call->n[i] * sizeof *ids);
        f->held[s] = call->past[i] + call->n[i];
        ids += call->n[i];
        f->tokens += call->n[i];
        fake_logits(f, f->ids[s], f->held[s], call->logits + i * FAKE_VOCAB);
    }
    return MIL_OK;
}

static inline void fake_copy(void *ctx, int64_t from, int64_t to, int64_t tokens) {
    struct fake *f = ctx;
    assert_true(from != to && tokens <= f->held[from]);
    memcpy(f->ids[to], f->ids[from], (size_t)tokens * sizeof(int32_t));
    f->held[to] = tokens;
}

/* piece: prompt tokens that fit a call beside one token of every slot. */
static inline struct decoder fake_decoder(struct fake *f, int64_t slots, int64_t piece) {
    static const struct decoder_ops ops = {.run = fake_run, .copy = fake_copy};
    struct decoder d = {.ops = &ops, .ctx = f, .vocab = FAKE_VOCAB, .slots = slots};
    d.length = FAKE_LENGTH;
    d.max_tokens = slots + piece;
    d.stop[0] = FAKE_END;
    d.n_stop = 1;
    return d;
}

#endif
