/* SPDX-License-Identifier: Apache-2.0 */
/* state_tensors.c - what optimizer.safetensors holds, as one numbered list for writer and reader:
 *     per param:            <param>.exp_avg, <param>.exp_avg_sq
 *     adapter:              its arrays one by one (adapter_tensor_at), and what its method keeps (adapter_state_at)
 *     full, per param:      <param>.master
 * All f32.  The factors are here because the adapter file keeps A0 + dA in one rounding, from which
 * neither can be had back exactly. */
#include <stdio.h>

#include "train/run.h"

size_t state_tensor_count(const struct run *r) {
    size_t moments = 2 * r->trainable->n;
    if (!r->adapter) return moments + r->trainable->n;
    return moments + adapter_tensor_count(r->adapter) + adapter_state_count(r->runtime);
}

static void moment(const struct run *r, size_t i, struct state_tensor *out) {
    const struct param *p = &r->trainable->params[i / 2];
    out->device = i % 2 ? r->optimizer.v[i / 2] : r->optimizer.m[i / 2];
    out->rows = p->value.rows;
    out->cols = p->value.cols;
    snprintf(out->name, sizeof out->name, "%s.%s", p->name, i % 2 ? "exp_avg_sq" : "exp_avg");
}

static void factor(const struct run *r, size_t i, struct state_tensor *out) {
    struct adapter_tensor t;
    adapter_tensor_at(r->adapter, i, &t);
    out->host = t.data;
    out->rows = t.rows;
    out->cols = t.cols;
    snprintf(out->name, sizeof out->name, "%s", t.name);
}

static void method_state(const struct run *r, size_t i, struct state_tensor *out) {
    struct adapter_state s;
    adapter_state_at(r->runtime, i, &s);
    out->device = s.tensor;
    out->rows = s.tensor.rows;
    out->cols = s.tensor.cols;
    snprintf(out->name, sizeof out->name, "%s", s.name);
}

void state_tensor_at(const struct run *r, size_t i, struct state_tensor *out) {
    size_t moments = 2 * r->trainable->n;
    *out = (struct state_tensor){0};
    if (i < moments) {
        moment(r, i, out);
        return;
    }
    if (r->adapter) {
        size_t arrays = adapter_tensor_count(r->adapter);
        if (i - moments < arrays)
            factor(r, i - moments, out);
        else
            method_state(r, i - moments - arrays, out);
        return;
    }
    const struct param *p = &r->trainable->params[i - moments];
    out->device = p->value;
    out->rows = p->value.rows;
    out->cols = p->value.cols;
    snprintf(out->name, sizeof out->name, "%s.master", p->name);
}
