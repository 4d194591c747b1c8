/* SPDX-License-Identifier: Apache-2.0 */
/* layer.h - one decoder layer: what its forward pass leaves behind, and the two passes (internal to
 * src/model).
 *
 * Names of a layer's activations, T rows each:
 *     x -> [rmsnorm] n1 -> q, k, v -> [attention] o -> x_mid = x + W_o o
 *       -> [rmsnorm] n2 -> g, u -> [silu(g) u] h -> x_out = x_mid + W_down h */
#ifndef MIL_MODEL_LAYER_H
#define MIL_MODEL_LAYER_H

#include "model/model.h"

/* act: q, k, v, o, g, u.  real: x_mid, the rstd columns, lse; x_out, which belongs to the caller.  n1, n2 and h are not
 * kept: the backward pass computes them again, each in one pass over memory. */
struct layer_saved {
    struct tensor rstd1, q, k, v, o, lse, x_mid, rstd2, g, u, x_out;
    struct adapter_saved adapter[MODULES];
};

/* Scratch of both passes: n: act [T, C], n1 or n2; h: act [T, F]. */
struct forward_scratch {
    struct tensor n, h;
};
/* Scratch of a backward pass.  dy: act [T, C]; dn: real [T, C]; wide: act [T, max(F, H D)]; dq, dk, dv: act. */
struct backward_scratch {
    struct tensor dy, dn, wide, dq, dk, dv;
};

/* Keys and values of earlier tokens: this call's rows go to `rows` of k and v. */
struct layer_cache {
    struct tensor k, v;
    const int32_t *rows;
};

/* One run through the layers. */
struct pass {
    struct model *m;
    struct stream *stream;
    int64_t tokens;
    const int32_t *position;
    const struct attn_seq *seqs;
    int64_t n_seqs;
    struct adapter_context adapter;
    struct forward_scratch fwd;
    struct backward_scratch bwd;
};

/* What the layout of a layer is for. */
enum layer_use {
    LAYER_KEPT,   /* backward comes later, from these buffers */
    LAYER_REDONE, /* buffers shared by all layers, backward right after */
    LAYER_INFER   /* no backward */
};
struct attn_shape attention_shape(const struct model_config *c);
/* Something trains in the module. */
bool linear_trains(const struct model *m, int64_t layer, enum module module);
/* Something trains in modules [first, last] of the layer. */
bool layer_trains(const struct model *m, int64_t layer, enum module first, enum module last);
/* Take the buffers of a layer for `tokens` rows; the adapters' too. call: sizing of their scratch.
 */
void layer_layout(const struct model *m, int64_t layer, int64_t tokens, enum layer_use use,
                  struct arena *a, struct arena *call, struct layer_saved *out);
void forward_scratch_layout(const struct model *m, int64_t tokens, struct arena *a,
                            struct forward_scratch *out);
void backward_scratch_layout(const struct model *m, int64_t tokens, struct arena *a,
                             struct backward_scratch *out);
/* Bytes of adapter scratch that any layer needs on top of a pass's own. */
size_t adapter_scratch_bytes(const struct model *m, int64_t tokens);

/* x_out may be x itself (then it is updated in place, and saved->x_mid must be x too).  cache: NULL
 * when keys and values are those of the pass. */
void layer_forward(struct pass *p, int64_t layer, struct tensor x, struct tensor x_out,
                   struct layer_saved *saved, const struct layer_cache *cache);
/* dx: gradient of x_out on entry, of x on return (undefined after the lowest layer that trains:
 * below_trains false). x: the layer's input. */
void layer_backward(struct pass *p, int64_t layer, struct tensor x, struct tensor dx,
                    struct layer_saved *saved, bool below_trains);

/* ---- linear modules (linear.c) ---- */

/* n modules with one input x: y = addend + W x + b + adapter, summed in real and rounded once.  y: act or real [T, m],
 * one a module; addend: real [T, m], may be y itself, or no data. */
void linear_forward(struct pass *p, int64_t layer, enum module first, int n, struct tensor x,
                    struct tensor addend, const struct tensor *y, struct adapter_saved *saved);
/* A module's output y = sum + addend (no data: none) and its gradient dy, act; y and addend are read where
 * linear_has_factor holds, dy then becomes the gradient before the factor. */
struct linear_output {
    struct tensor dy, y, addend;
};
bool linear_has_factor(const struct model *m, int64_t layer, enum module module);
/* Modules with one input x: parameter gradients += ...; dx = sum over them of dy W + adapter's part, rounded
 * once, or without data: not wanted.  dx: act or real [T, n]; out: one a module.  x may lack data where none of
 * the modules trains. */
void linear_backward(struct pass *p, int64_t layer, enum module first, int n, struct tensor x,
                     const struct linear_output *out, struct tensor dx,
                     const struct adapter_saved *saved);

#endif
