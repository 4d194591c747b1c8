/* SPDX-License-Identifier: Apache-2.0 */
/* layer_backward.c - one decoder layer, backward: the chain rule through layer.h's equations from
 * the bottom up.
 *
 * dx runs through in real: it enters as the gradient of x_out, becomes that of x_mid (the MLP's
 * part is added) and leaves as that of x.  It is rounded to act only as an operand of products.
 * Nothing is computed that no parameter below needs.
 *
 * A module whose adapter has a factor reads its own output again (linear_output).  All outputs are still there: v, g and
 * u as they were made, q and k after they are turned back, those of o and down as the residual stream's change. */
#include "model/layer.h"

static struct tensor wide_as(const struct pass *p, int64_t cols) {
    struct tensor t = p->bwd.wide;
    return tensor_of(t.data, t.dtype, p->tokens, cols);
}

/* A gradient of that shape that nobody wants. */
static struct tensor unwanted(struct tensor like) {
    like.data = NULL;
    return like;
}

/* n1 or n2 again, the input of modules that train. */
static struct tensor norm_again(struct pass *p, struct tensor x, struct tensor w,
                                struct tensor rstd) {
    be_rmsnorm_fwd(p->stream, p->fwd.n, rstd, x, w, p->m->config.norm_eps);
    return p->fwd.n;
}

static void mlp_backward(struct pass *p, int64_t layer, struct tensor dx, struct layer_saved *s,
                         bool below_trains) {
    const struct layer *l = &p->m->layers[layer];
    bool inputs_train = layer_trains(p->m, layer, MODULE_GATE, MODULE_UP);
    struct tensor dh = wide_as(p, p->m->config.ffn), h = p->fwd.h, n = {0}, none = {0};
    struct tensor dn = below_trains ? p->bwd.dn : unwanted(p->bwd.dn);
    const struct linear_output down = {p->bwd.dy, s->x_out, s->x_mid};
    be_copy(p->stream, p->bwd.dy, dx);
    if (linear_trains(p->m, layer, MODULE_DOWN)) be_swiglu_fwd(p->stream, h, s->g, s->u);
    linear_backward(p, layer, MODULE_DOWN, 1, h, &down, dh, &s->adapter[MODULE_DOWN]);
    if (!inputs_train && !below_trains) return;
    /* Gradients take the place of g and u where these are not read afterwards, else that of h and dh. */
    bool gate = linear_has_factor(p->m, layer, MODULE_GATE),
         up = linear_has_factor(p->m, layer, MODULE_UP);
    struct tensor dg = gate ? h : s->g, du = !up ? s->u : gate ? dh : h;
    be_swiglu_bwd(p->stream, dg, du, dh, s->g, s->u);
    if (inputs_train) n = norm_again(p, s->x_mid, l->mlp_norm, s->rstd2);
    const struct linear_output out[2] = {{dg, s->g, none}, {du, s->u, none}};
    linear_backward(p, layer, MODULE_GATE, 2, n, out, dn, &s->adapter[MODULE_GATE]);
    if (below_trains)
        be_rmsnorm_bwd(p->stream, dx, l->d_mlp_norm, dn, s->x_mid, l->mlp_norm, s->rstd2);
}

static void attention_backward(struct pass *p, int64_t layer, struct tensor x, struct tensor dx,
                               struct layer_saved *s) {
    const struct model_config *c = &p->m->config;
    struct attn_shape shape = attention_shape(c);
    struct backward_scratch *b = &p->bwd;
    struct tensor d_o = wide_as(p, c->heads * c->head_dim);
    const struct linear_output o = {b->dy, s->x_mid, x};
    be_copy(p->stream, b->dy, dx);
    linear_backward(p, layer, MODULE_O, 1, s->o, &o, d_o, &s->adapter[MODULE_O]);
    be_attention_bwd(p->stream, b->dq, b->dk, b->dv, d_o, s->o, s->lse, s->q, s->k, s->v, p->seqs,
                     p->n_seqs, &shape);
    be_rope(p->stream, b->dq, p->m->rope, p->position, c->head_dim, true);
    be_rope(p->stream, b->dk, p->m->rope, p->position, c->head_dim, true);
    if (linear_has_factor(p->m, layer, MODULE_Q))
        be_rope(p->stream, s->q, p->m->rope, p->position, c->head_dim, true);
    if (linear_has_factor(p->m, layer, MODULE_K))
        be_rope(p->stream, s->k, p->m->rope, p->position, c->head_dim, true);
}

void layer_backward(struct pass *p, int64_t layer, struct tensor x, struct tensor dx,
                    struct layer_saved *s, bool below_trains) {
    const struct layer *l = &p->m->layers[layer];
    struct backward_scratch *b = &p->bwd;
    struct tensor n = {0}, none = {0};
    bool attention_trains = layer_trains(p->m, layer, MODULE_Q, MODULE_O);
    mlp_backward(p, layer, dx, s, below_trains || attention_trains);
    if (!below_trains && !attention_trains) return;
    attention_backward(p, layer, x, dx, s);
    struct tensor dn = below_trains ? b->dn : unwanted(b->dn);
    if (layer_trains(p->m, layer, MODULE_Q, MODULE_V)) n = norm_again(p, x, l->attn_norm, s->rstd1);
    const struct linear_output out[3] = {
        {b->dq, s->q, none}, {b->dk, s->k, none}, {b->dv, s->v, none}};
    linear_backward(p, layer, MODULE_Q, 3, n, out, dn, &s->adapter[MODULE_Q]);
    if (below_trains) be_rmsnorm_bwd(p->stream, dx, l->d_attn_norm, dn, x, l->attn_norm, s->rstd1);
}
