/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer.c - AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019)
 * as torch.optim.AdamW has it, clipping as torch.nn.utils.clip_grad_norm_ has it: the coefficient
 * is max_norm / (norm + 1e-6), never above 1, applied to the gradient inside the update. */
#include "train/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "core/str.h"

static size_t moment_bytes(struct tensor value) {
    return align_up((size_t)value.rows * (size_t)value.cols * dtype_size(value.dtype), MEM_ALIGN);
}

size_t optimizer_bytes(int64_t elements, size_t n, enum dtype real) {
    return 2 * ((size_t)elements * dtype_size(real) + n * (MEM_ALIGN - 1));
}

enum mil_status optimizer_init(struct optimizer *o, struct trainable *t, struct backend *b,
                               struct mil_error *err) {
    size_t bytes = 0;
    *o = (struct optimizer){.trainable = t, .backend = b};
    for (size_t i = 0; i < t->n; i++) bytes += 2 * moment_bytes(t->params[i].value);
    o->m = mem_calloc(MEM_ADAPTER, t->n, sizeof *o->m);
    o->v = mem_calloc(MEM_ADAPTER, t->n, sizeof *o->v);
    o->squares = mem_calloc(MEM_ADAPTER, t->n, sizeof *o->squares);
    o->slab = backend_alloc(b, MEM_ADAPTER, bytes);
    if (!o->m || !o->v || !o->squares || !o->slab) return error_nomem(err, bytes);
    unsigned char *at = o->slab;
    for (size_t i = 0; i < t->n; i++) {
        struct tensor value = t->params[i].value;
        o->m[i] = tensor_of(at, value.dtype, value.rows, value.cols);
        o->v[i] = tensor_of(at + moment_bytes(value), value.dtype, value.rows, value.cols);
        at += 2 * moment_bytes(value);
        be_zero(backend_stream(b), o->m[i]);
        be_zero(backend_stream(b), o->v[i]);
    }
    return stream_sync(backend_stream(b), err);
}

void optimizer_release(struct optimizer *o) {
    if (o->backend) backend_release(o->backend, o->slab);
    mem_free(o->m);
    mem_free(o->v);
    mem_free(o->squares);
    *o = (struct optimizer){0};
}

void optimizer_zero_grads(struct optimizer *o) {
    for (size_t i = 0; i < o->trainable->n; i++)
        be_zero(backend_stream(o->backend), o->trainable->params[i].grad);
}

double optimizer_norm(struct optimizer *o) {
    double sum = 0;
    for (size_t i = 0; i < o->trainable->n; i++) {
        o->squares[i] = be_sum_squares(backend_stream(o->backend), o->trainable->params[i].grad);
        sum += o->squares[i];
    }
    return sqrt(sum);
}

double optimizer_clip(double norm, double max_norm) {
    return max_norm > 0 ? fmin(1, max_norm / (norm + 1e-6)) : 1;
}

void optimizer_step(struct optimizer *o, int64_t step, double norm,
                    const struct optimizer_rates *rates) {
    struct stream *s = backend_stream(o->backend);
    double clip = optimizer_clip(norm, rates->max_norm);
    struct adamw hyper = {.lr = rates->lr,
                          .beta1 = rates->beta1,
                          .beta2 = rates->beta2,
                          .eps = rates->eps,
                          .bias1 = 1 - pow(rates->beta1, (double)step),
                          .bias2 = 1 - pow(rates->beta2, (double)step),
                          .grad_scale = clip};
    for (size_t i = 0; i < o->trainable->n; i++) {
        struct param *p = &o->trainable->params[i];
        hyper.weight_decay = p->decay ? rates->weight_decay : 0;
        hyper.lr = rates->lr * (p->rate > 0 ? p->rate : 1);
        be_adamw(s, p->value, o->m[i], o->v[i], p->grad, p->base, p->copy, &hyper);
    }
    if (o->trainable->refresh && !o->trainable->copies_only)
        o->trainable->refresh(o->trainable->owner, s);
}

static bool ends_with_one(const char *name, const char *const *suffixes) {
    for (; suffixes && *suffixes; suffixes++)
        if (str_ends(name, *suffixes)) return true;
    return false;
}

size_t optimizer_dead(const struct optimizer *o, const char *const *skip, char *out, size_t cap) {
    size_t dead = 0, used = 0;
    out[0] = 0;
    for (size_t i = 0; i < o->trainable->n; i++) {
        const char *name = o->trainable->params[i].name;
        if (o->squares[i] != 0 || ends_with_one(name, skip)) continue;
        if (dead++ >= 4) continue;
        int n = snprintf(out + used, cap - used, "%s%s", used ? ", " : "", name);
        used = n > 0 && used + (size_t)n < cap ? used + (size_t)n : used;
    }
    if (dead > 4) snprintf(out + used, cap - used, " and %zu more", dead - 4);
    return dead;
}
