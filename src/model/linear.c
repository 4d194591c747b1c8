/* SPDX-License-Identifier: Apache-2.0 */
/* linear.c - y = W x + b with an adapter's contribution, and its backward pass.
 *
 * An adapter's contribution starts at zero and stays small beside W x.  Added to a W x that was
 * already rounded to bf16, most of it would be lost, so with an adapter (or a bias) the sum is made
 * in real and rounded once. */
#include "model/layer.h"

/* The same memory as another shape: rows x cols from the start of t. */
static struct tensor reshaped(struct tensor t, int64_t rows, int64_t cols) {
    REQUIRE(rows * cols <= t.rows * t.cols);
    return tensor_of(t.data, t.dtype, rows, cols);
}

static void add_adapter(struct pass *p, const struct linear *l, struct tensor x, struct tensor y,
                        struct adapter_saved *saved) {
    if (!l->adapter) return;
    size_t mark = arena_mark(p->adapter.call);
    l->adapter->ops->forward(l->adapter, &p->adapter, x, y, saved);
    arena_rewind(p->adapter.call, mark);
}

void linear_accumulate(struct pass *p, int64_t layer, enum module module, struct tensor x,
                       struct tensor y, struct adapter_saved *saved) {
    const struct linear *l = &p->m->layers[layer].linear[module];
    be_matmul(p->stream, MATMUL_TRANS_B, 1.0, x, l->w, 1.0, y);
    if (module_has_bias(&p->m->config, module)) be_add_bias(p->stream, y, l->b);
    add_adapter(p, l, x, y, saved);
}

void linear_forward(struct pass *p, int64_t layer, enum module module, struct tensor x,
                    struct tensor y, struct adapter_saved *saved) {
    const struct linear *l = &p->m->layers[layer].linear[module];
    bool biased = module_has_bias(&p->m->config, module);
    bool rounds = backend_act(p->m->backend) != backend_real(p->m->backend);
    bool aside = rounds && (l->adapter || biased);
    struct tensor sum = aside ? reshaped(p->fwd.wide, y.rows, y.cols) : y;
    be_matmul(p->stream, MATMUL_TRANS_B, 1.0, x, l->w, 0.0, sum);
    if (biased) be_add_bias(p->stream, sum, l->b);
    add_adapter(p, l, x, sum, saved);
    if (aside) be_copy(p->stream, y, sum);
}

/* Gradients of W and b in full fine-tuning. */
static void weight_gradients(struct pass *p, const struct linear *l, struct tensor x,
                             struct tensor dy) {
    if (tensor_present(l->dw)) be_matmul(p->stream, MATMUL_TRANS_A, 1.0, dy, x, 1.0, l->dw);
    if (tensor_present(l->db)) be_bias_grad(p->stream, l->db, dy);
}

static void adapter_backward(struct pass *p, const struct linear *l, struct tensor x,
                             struct tensor dy, struct tensor dx,
                             const struct adapter_saved *saved) {
    if (!l->adapter) return;
    size_t mark = arena_mark(p->adapter.call);
    l->adapter->ops->backward(l->adapter, &p->adapter, x, dy, dx, saved);
    arena_rewind(p->adapter.call, mark);
}

void linear_backward(struct pass *p, int64_t layer, enum module module, struct tensor x,
                     struct tensor dy, double beta, struct tensor dx,
                     const struct adapter_saved *saved) {
    const struct linear *l = &p->m->layers[layer].linear[module];
    weight_gradients(p, l, x, dy);
    if (tensor_present(dx)) be_matmul(p->stream, 0, 1.0, dy, l->w, beta, dx);
    adapter_backward(p, l, x, dy, dx, saved);
}

void linear_backward_act(struct pass *p, int64_t layer, enum module module, struct tensor x,
                         struct tensor dy, struct tensor dx, const struct adapter_saved *saved) {
    const struct linear *l = &p->m->layers[layer].linear[module];
    bool rounds = backend_act(p->m->backend) != backend_real(p->m->backend);
    bool aside = rounds && l->adapter;
    struct tensor sum = aside ? reshaped(p->bwd.wide_real, dx.rows, dx.cols) : dx;
    weight_gradients(p, l, x, dy);
    be_matmul(p->stream, 0, 1.0, dy, l->w, 0.0, sum);
    adapter_backward(p, l, x, dy, sum, saved);
    if (aside) be_copy(p->stream, dx, sum);
}
