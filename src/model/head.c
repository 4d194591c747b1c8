/* SPDX-License-Identifier: Apache-2.0 */
/* head.c - loss of the supervised rows.
 *
 *     n = rmsnorm(x_r) w;  z = n W^T;  loss_r = logsumexp(z) - z[label_r]
 *     dz = scale (softmax(z) - onehot(label_r));  dn = dz W;  dW += dz^T n;  dx_r = rmsnorm'(dn)
 *
 * Rows without a label never meet the head, and only `chunk` rows of logits exist at a time: with a
 * vocabulary of 128 k and 2,048 tokens that is the difference between 1 GiB and what is chosen. */
#include "model/head.h"

void head_layout(const struct model *m, int64_t rows, bool gradient, struct arena *a,
                 struct head_scratch *out) {
    const struct model_config *c = &m->config;
    enum dtype act = backend_act(m->backend), real = backend_real(m->backend);
    *out = (struct head_scratch){0};
    out->x = tensor_take(a, real, rows, c->width, "head: chosen rows");
    out->normed = tensor_take(a, act, rows, c->width, "head: norm output");
    out->rstd = tensor_take(a, real, rows, 1, "head: norm");
    out->logits = tensor_take(a, real, rows, c->vocab, "head: logits");
    if (!gradient) return;
    out->dlogits = tensor_take(a, act, rows, c->vocab, "head: gradient of the logits");
    out->dn = tensor_take(a, real, rows, c->width, "head: gradient of the norm");
    out->dx = tensor_take(a, real, rows, c->width, "head: gradient of chosen rows");
}

void head_logits(struct model *m, struct stream *s, struct tensor x, const int32_t *index,
                 int64_t n, struct head_scratch *h) {
    struct tensor rows = tensor_rows(h->x, 0, n), normed = tensor_rows(h->normed, 0, n);
    be_gather_rows(s, rows, x, index);
    be_rmsnorm_fwd(s, normed, tensor_rows(h->rstd, 0, n), rows, m->final_norm, m->config.norm_eps);
    be_matmul(s, MATMUL_TRANS_B, 1.0, normed, m->head, 0.0, tensor_rows(h->logits, 0, n));
}

/* From dlogits of the first n rows back to those rows of dx. */
static void chunk_backward(struct model *m, struct stream *s, const int32_t *index, int64_t n,
                           struct tensor dx, struct head_scratch *h) {
    struct tensor dlogits = tensor_rows(h->dlogits, 0, n), dn = tensor_rows(h->dn, 0, n);
    struct tensor rows = tensor_rows(h->dx, 0, n);
    be_matmul(s, 0, 1.0, dlogits, m->head, 0.0, dn);
    if (tensor_present(m->d_head))
        be_matmul(s, MATMUL_TRANS_A, 1.0, dlogits, tensor_rows(h->normed, 0, n), 1.0, m->d_head);
    be_zero(s, rows);
    be_rmsnorm_bwd(s, rows, m->d_final_norm, dn, tensor_rows(h->x, 0, n), m->final_norm,
                   tensor_rows(h->rstd, 0, n));
    be_scatter_add_rows(s, dx, rows, index);
}

void head_loss(struct model *m, struct stream *s, const struct batch *b, struct tensor x,
               struct tensor loss, struct tensor dx, struct head_scratch *h) {
    struct tensor none = {0};
    bool gradient = tensor_present(dx);
    int64_t chunk = h->x.rows;
    for (int64_t at = 0; at < b->n_rows; at += chunk) {
        int64_t n = b->n_rows - at < chunk ? b->n_rows - at : chunk;
        head_logits(m, s, x, b->row + at, n, h);
        be_cross_entropy(s, tensor_rows(loss, at, n),
                         gradient ? tensor_rows(h->dlogits, 0, n) : none,
                         tensor_rows(h->logits, 0, n), b->label + at, b->loss_scale);
        if (gradient) chunk_backward(m, s, b->row + at, n, dx, h);
    }
}
