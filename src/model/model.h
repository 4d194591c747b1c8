/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - the decoder on a backend: weights bound, forward, backward, head and loss.
 *
 * One decoder for all families (config.h).  With x the residual stream, [T, C] in real:
 *     x += W_o attention(rope(W_q n), rope(W_k n), W_v n),   n = rmsnorm(x) * w_attn
 *     x += W_down (silu(W_gate n) * (W_up n)),               n = rmsnorm(x) * w_mlp
 *     logits = W_head (rmsnorm(x) * w_final)
 * A micro-batch is the concatenation of its sequences (no padding); attention stays within a
 * sequence. Plan, then run: the *_layout functions take every buffer from arenas and can be run in
 * sizing mode. */
#ifndef MIL_MODEL_MODEL_H
#define MIL_MODEL_MODEL_H

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/param.h"

/* ---- adapters' hook ---- */

/* What a forward or backward call hands to an adapter. */
struct adapter_context {
    struct stream *stream;
    struct arena *call; /* scratch; the caller rewinds it once the terms are used */
    bool training;      /* dropout applies */
    uint64_t seed;
    uint32_t step;           /* optimiser step, for dropout keys */
    const uint64_t *row_key; /* one a row of x; NULL when !training */
};
/* Buffers that forward leaves for backward; filled by layout. */
struct adapter_saved {
    struct tensor t[4];
};
/* What a module's sum became, y = f (sum) + addend + bias; without data: none. */
struct module_output {
    struct tensor y, addend, bias;
};
/* An adapter of one linear module y = W x, implemented in src/adapt: it adds terms to the products that make y
 * and dx, so that everything is summed before it is rounded.  x: act [T, n]; dy: act [T, m]. */
struct linear_adapter;
struct linear_adapter_ops {
    /* Take the saved buffers for T tokens from `step`; and from `call` (sizing) what backward takes there,
     * leaving taken what its terms read. */
    void (*layout)(const struct linear_adapter *a, struct arena *step, struct arena *call,
                   int64_t tokens, struct adapter_saved *saved);
    /* Fill `saved`; append to the terms of the sum that y is, which read nothing of ctx->call, and set its factor f
     * where the adapter scales the whole sum. */
    void (*forward)(const struct linear_adapter *a, const struct adapter_context *ctx,
                    struct tensor x, struct adapter_saved *saved, struct product_sum *y);
    /* dy, the gradient after the factor f, becomes that before it; parameters of the factor get theirs.  NULL: there
     * is no factor, and nobody reads a module's output in the backward pass. */
    void (*before_factor)(const struct linear_adapter *a, const struct adapter_context *ctx,
                          struct tensor dy, const struct module_output *out);
    /* Parameter gradients += ...; append to dx's terms (NULL: the input needs no gradient).  What they read stays
     * in ctx->call until the caller has used them.  dy: the gradient before the factor. */
    void (*backward)(const struct linear_adapter *a, const struct adapter_context *ctx,
                     struct tensor x, struct tensor dy, const struct adapter_saved *saved,
                     struct product_terms *dx);
};
struct linear_adapter {
    const struct linear_adapter_ops *ops;
};

/* ---- the model ---- */

/* y = x W^T + b.  w: act [m, n] (in place from the file where its type serves). dw, db have data in
 * full fine-tuning only. */
struct linear {
    struct tensor w, b, dw, db;
    const struct linear_adapter *adapter; /* borrowed, NULL: none */
};
struct layer {
    struct tensor attn_norm, mlp_norm; /* real [1, C] */
    struct tensor d_attn_norm, d_mlp_norm;
    struct linear linear[MODULES];
};
struct model {
    struct model_config config;
    struct backend *backend;
    const struct checkpoint *checkpoint; /* borrowed; NULL for a fresh model */
    struct layer *layers;
    struct tensor embed, d_embed; /* act [V, C] */
    struct tensor head, d_head;   /* act [V, C]; embed itself where tied */
    struct tensor final_norm, d_final_norm;
    struct tensor rope; /* real [rope positions, D]; its memory belongs to the model */
    void *owned;        /* slab of converted weights, on the backend */
    size_t owned_bytes;
    /* Every parameter trains. Set by full_new; on a skeleton, by hand before step_plan. */
    bool train_all;
    uint64_t fresh_seed; /* of a model without a checkpoint */
};

/* Bind a checkpoint's weights to a backend; converts what cannot be used in place.  NaN or infinity
 * in a weight is MIL_INPUT by name.  positions: rows of the rope table (longest sequence).  The
 * checkpoint must outlive the model.  Of a checkpoint opened CHECKPOINT_CONFIG_ONLY it makes a
 * skeleton: tensors with shapes but no data, for the *_plan functions only. */
enum mil_status model_new(const struct checkpoint *c, struct backend *b, int64_t positions,
                          struct model **out, struct mil_error *err);
void model_free(struct model **m);
/* Session bytes that model_new would take, into a plan; needs only the configuration.  Weights used
 * in place from the file are booked too, under that name: their pages become resident.  Without
 * weights at hand, config.json's torch_dtype says what would be used in place. */
void model_plan(const struct checkpoint *c, const struct backend *b, int64_t positions,
                struct plan *plan);

/* ---- micro-batches ---- */

/* Tokens of several sequences back to back.  All arrays are the caller's, on the host. */
struct batch {
    int64_t tokens;           /* T */
    const int32_t *ids;       /* T ids, or NULL: then `embeddings` is the input */
    struct tensor embeddings; /* real [T, C] */
    const int32_t *position;  /* T, position within the sequence */
    const struct attn_seq *seqs;
    int64_t n_seqs;
    /* training: */
    const uint64_t *row_key; /* T, identifies the token for dropout */
    const int32_t *row;      /* n_rows rows whose next token is supervised, ascending */
    const int32_t *label;    /* n_rows: that next token */
    int64_t n_rows;
    double loss_scale; /* 1 / supervised tokens of the whole optimiser step */
    uint64_t seed;
    uint32_t step;
};

/* ---- training ---- */

struct step_options {
    int64_t max_tokens; /* T of the largest micro-batch */
    int64_t max_rows;   /* supervised rows of the largest micro-batch */
    int64_t head_chunk; /* rows of logits held at once */
    bool recompute;     /* keep only each layer's input; run it again in backward */
};
struct step; /* the buffers of one forward + backward, and what is in them */
/* Book (plan != NULL) without reserving: bytes of the two arenas. */
void step_plan(const struct model *m, const struct step_options *o, struct plan *plan);
enum mil_status step_new(struct model *m, const struct step_options *o, struct step **out,
                         struct mil_error *err);
void step_free(struct step **s);
/* Forward, loss and backward of one micro-batch.  Parameter gradients are summed into.  *loss_sum:
 * sum of the rows' losses (not scaled), in row order.  MIL_NUMERIC is left to the caller: *loss_sum
 * may be NaN. */
enum mil_status step_run(struct step *s, const struct batch *b, double *loss_sum,
                         struct mil_error *err);
/* Forward and loss only (evaluation): row_loss gets n_rows losses unless NULL.  A step that is used
 * for this alone is made with recompute, which keeps the fewest activations. */
enum mil_status step_loss(struct step *s, const struct batch *b, double *loss_sum, float *row_loss,
                          struct mil_error *err);

/* ---- inference ---- */

/* Keys and values of `slots` sequences of at most `length` tokens each, and the scratch of a call
 * with at most max_tokens tokens and max_rows rows of logits. */
struct infer_options {
    int64_t slots, length, max_tokens, max_rows;
};
struct infer;
void infer_plan(const struct model *m, const struct infer_options *o, struct plan *plan);
enum mil_status infer_new(struct model *m, const struct infer_options *o, struct infer **out,
                          struct mil_error *err);
void infer_free(struct infer **s);
/* Append n tokens to the sequence in each of n_seqs distinct slots and run them.  ids: all of them
 * back to back; past[i]: tokens that slot[i] holds before (0 starts it anew). */
struct infer_call {
    const int32_t *ids;
    const int32_t *slot;
    const int64_t *past, *n;
    int64_t n_seqs;
    bool all_rows; /* logits of every token, else of each sequence's last one */
    float *logits; /* host, f32 [rows, V]; written on success */
};
enum mil_status infer_run(struct infer *s, const struct infer_call *call, struct mil_error *err);
/* Copy the first `tokens` of slot `from` to slot `to` (beams, shared prompts). */
void infer_copy_slot(struct infer *s, int64_t from, int64_t to, int64_t tokens);

/* The adapters of a model (NULL detaches); set before step_new / infer_new, which size their
 * scratch. */
static inline void model_attach(struct model *m, int64_t layer, enum module module,
                                const struct linear_adapter *a) {
    m->layers[layer].linear[module].adapter = a;
}

/* ---- full fine-tuning ---- */

/* Master copies in real, gradients, and compute copies of every parameter; the model's own tensors
 * then are those copies.  Starts from the checkpoint's values, or (fresh) from N(0, init_range)
 * with norms 1. */
struct full;
enum mil_status full_new(struct model *m, struct full **out, struct mil_error *err);
/* Before model_free; the model has no weights from then on. */
void full_free(struct full **f);
struct trainable *full_trainable(struct full *f);
void full_plan(const struct model_config *c, const struct backend *b, struct plan *plan);
/* A model without a checkpoint: weights are drawn from Philox (seed, RNG_INIT, index of the weight
 * in canonical order, element).  Only for full_new after it. */
enum mil_status model_new_fresh(const struct model_config *c, struct backend *b, int64_t positions,
                                uint64_t seed, struct model **out, struct mil_error *err);
/* Write the model as a Hugging Face directory's weights: model.safetensors in `dir` (tied head left
 * out), values as `stored`. */
enum mil_status full_save(const struct full *f, const char *dir, enum dtype stored,
                          struct mil_error *err);
/* Load values saved by full_save in F32 back into the masters (resume). */
enum mil_status full_load(struct full *f, const char *path, struct mil_error *err);

#endif
