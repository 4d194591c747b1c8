/* SPDX-License-Identifier: Apache-2.0 */
/* whole.h - tensors of the model that train as a whole beside the factors: the copies that PEFT's modules_to_save
 * keeps of embeddings and head, and biases; private to src/adapt.
 *
 * The base is not changed: a whole holds the trained values themselves, in f32, and takes the place of the model's
 * tensor while the adapter is attached.  Of a tied model embeddings and head are two copies, as in PEFT: training
 * one leaves the other at the base's values. */
#ifndef MIL_ADAPT_WHOLE_H
#define MIL_ADAPT_WHOLE_H

#include "adapt/adapter.h"

enum whole_kind { WHOLE_EMBED, WHOLE_HEAD, WHOLE_BIAS };
struct whole {
    enum whole_kind kind;
    int64_t layer; /* WHOLE_BIAS */
    enum module module;
    int64_t rows, cols; /* a bias has one row */
    float *value;       /* host */
};

/* "embed_tokens" or "lm_head" for that name and for a path that ends so; NULL: something else. */
const char *whole_module(const char *name);
/* What resolved options ask for of a model: *n wholes without values, embeddings, head, then biases in canonical order
 * (mem_free).  selected: the adapted modules, layers * MODULES.  MIL_USAGE: a module that cannot be saved, biases of a
 * model that has none. */
enum mil_status whole_shapes(const struct model_config *c, const struct adapter_options *o,
                             const bool *selected, struct whole **out, size_t *n,
                             struct mil_error *err);
/* Give a those of its options with the base's values. */
enum mil_status wholes_make(struct adapter *a, const struct checkpoint *base,
                            struct mil_error *err);
void wholes_free(struct adapter *a);
int64_t wholes_elements(const struct adapter *a);
/* "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.bias". */
void whole_name(const struct whole *w, char *out, size_t cap);
void whole_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out);

/* ---- on a backend ---- */

struct whole_runtime {
    struct tensor value, grad, copy;   /* real, real, act (of matrices, where act is not real) */
    struct tensor *place, *grad_place; /* in the model */
    struct tensor replaced, grad_replaced; /* what stood there */
};
struct adapter_runtime;
/* The wholes of rt->adapter into rt->model; values are pushed by adapter_push. */
enum mil_status wholes_attach(struct adapter_runtime *rt, bool trainable, struct mil_error *err);
void wholes_detach(struct adapter_runtime *rt);
/* Append their params, gradients zeroed; and how many there are. */
void wholes_add_params(struct adapter_runtime *rt);
/* Renew the copies. */
void wholes_refresh(const struct adapter_runtime *rt, struct stream *s);
/* Session bytes beside the host's values (those too, as adapter_plan does). */
void wholes_plan(const struct whole *w, size_t n, bool trainable, enum dtype act,
                 struct plan *plan);

#endif
