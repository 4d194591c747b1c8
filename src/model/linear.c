/* SPDX-License-Identifier: Apache-2.0 */
/* linear.c - y = W x + b with an adapter's contribution, and its backward pass.
 *
 * An adapter's contribution starts at zero and stays small beside W x.  Added to a W x that was
 * already rounded to bf16, most of it would be lost, so the sum is made in real and rounded once: as
 * terms of one product, which costs nothing beside it. */
#include "model/layer.h"

void linear_forward(struct pass *p, int64_t layer, enum module first, int n, struct tensor x,
                    struct tensor addend, const struct tensor *y, struct adapter_saved *saved) {
    struct product_sum sums[PRODUCT_SUMS] = {{.alpha = 0}};
    struct tensor none = {0};
    size_t mark = arena_mark(p->adapter.call);
    for (int i = 0; i < n; i++) {
        enum module module = (enum module)((int)first + i);
        const struct linear *l = &p->m->layers[layer].linear[module];
        bool biased = module_has_bias(&p->m->config, module);
        sums[i] = (struct product_sum){
            .c = y[i], .alpha = 1.0, .beta = 1.0, .d = addend, .e = biased ? l->b : none};
        product_add(&sums[i].terms, MATMUL_TRANS_B, x, l->w);
        if (l->adapter) l->adapter->ops->forward(l->adapter, &p->adapter, x, &saved[i], &sums[i]);
    }
    be_products(p->stream, sums, n);
    arena_rewind(p->adapter.call, mark);
}

bool linear_has_factor(const struct model *m, int64_t layer, enum module module) {
    const struct linear_adapter *a = m->layers[layer].linear[module].adapter;
    return a && a->ops->before_factor;
}

void linear_backward(struct pass *p, int64_t layer, enum module first, int n, struct tensor x,
                     const struct linear_output *out, struct tensor dx,
                     const struct adapter_saved *saved) {
    struct product_terms terms = {.n = 0};
    struct tensor none = {0};
    size_t mark = arena_mark(p->adapter.call);
    for (int i = 0; i < n; i++) {
        enum module module = (enum module)((int)first + i);
        const struct linear *l = &p->m->layers[layer].linear[module];
        const struct linear_adapter *a = l->adapter;
        struct tensor dy = out[i].dy, bias = module_has_bias(&p->m->config, module) ? l->b : none;
        const struct module_output made = {out[i].y, out[i].addend, bias};
        if (tensor_present(l->db)) be_bias_grad(p->stream, l->db, dy);
        if (a && a->ops->before_factor) a->ops->before_factor(a, &p->adapter, dy, &made);
        if (tensor_present(l->dw)) be_matmul(p->stream, MATMUL_TRANS_A, 1.0, dy, x, 1.0, l->dw);
        if (tensor_present(dx)) product_add(&terms, 0, dy, l->w);
        if (a)
            a->ops->backward(a, &p->adapter, x, dy, &saved[i], tensor_present(dx) ? &terms : NULL);
    }
    if (tensor_present(dx)) be_product(p->stream, dx, 1.0, &terms, 0.0, none, none);
    arena_rewind(p->adapter.call, mark);
}
