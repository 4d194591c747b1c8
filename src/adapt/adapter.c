/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c - the host side of an adapter: its storage. */
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "adapt/whole.h"
#include "core/mem.h"

/* ---- storage ---- */

enum mil_status adapter_new(const struct adapter_options *o, size_t n, struct adapter **out,
                            struct mil_error *err) {
    *out = NULL;
    struct adapter *a = mem_calloc(MEM_ADAPTER, 1, sizeof *a);
    if (!a) return error_nomem(err, sizeof *a);
    enum mil_status st = options_copy(o, &a->options, err);
    if (st == MIL_OK) {
        a->deltas = mem_calloc(MEM_ADAPTER, n, sizeof *a->deltas);
        a->n = a->deltas ? n : 0;
        if (!a->deltas) st = error_nomem(err, n * sizeof *a->deltas);
    }
    if (st != MIL_OK) {
        adapter_free(&a);
        return st;
    }
    *out = a;
    return MIL_OK;
}

void adapter_free(struct adapter **p) {
    struct adapter *a = *p;
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) {
        struct delta_part parts[DELTA_PARTS];
        size_t n = delta_parts(&a->deltas[i], parts);
        for (size_t k = 0; k < n; k++) mem_free(*delta_part_data(&a->deltas[i], &parts[k]));
    }
    wholes_free(a);
    options_release(&a->options);
    mem_free(a->deltas);
    mem_free(a);
    *p = NULL;
}

size_t delta_parts(const struct delta *d, struct delta_part out[DELTA_PARTS]) {
    size_t n = 0;
    enum delta_form f = d->form;
    if (f != DELTA_FIXED_B)
        out[n++] = (struct delta_part){"A0", offsetof(struct delta, a0), d->r, d->n, false};
    if (f == DELTA_PAIR || f == DELTA_FIXED_B)
        out[n++] = (struct delta_part){"B0", offsetof(struct delta, b0), d->m, d->r, false};
    out[n++] = (struct delta_part){"delta_A", offsetof(struct delta, da), d->r, d->n, true};
    if (f != DELTA_FIXED_B)
        out[n++] = (struct delta_part){"delta_B", offsetof(struct delta, db), d->m, d->r, true};
    if (f == DELTA_SCALED)
        out[n++] = (struct delta_part){"lambda", offsetof(struct delta, e), 1, d->r, true};
    if (f == DELTA_SCALED)
        out[n++] = (struct delta_part){"pruned", offsetof(struct delta, pruned), 1, d->r, false};
    if (d->dora)
        out[n++] =
            (struct delta_part){"magnitude", offsetof(struct delta, magnitude), 1, d->m, true};
    return n;
}

enum mil_status delta_alloc(struct delta *d, struct mil_error *err) {
    struct delta_part parts[DELTA_PARTS];
    size_t n = delta_parts(d, parts);
    for (size_t i = 0; i < n; i++) {
        size_t count = (size_t)(parts[i].rows * parts[i].cols);
        float *data = mem_calloc(MEM_ADAPTER, count, sizeof *data);
        if (!data) return error_nomem(err, count * sizeof *data);
        *delta_part_data(d, &parts[i]) = data;
    }
    return MIL_OK;
}

const char *adapter_method_name(const struct adapter *a) {
    if (a->method) return a->method->name;
    switch (a->n > 0 ? a->deltas[0].form : DELTA_LORA) {
    case DELTA_SCALED: return "adalora";
    case DELTA_FIXED_B: return "mica";
    default: return a->n > 0 && a->deltas[0].dora ? "dora" : "lora";
    }
}

int64_t adapter_elements(const struct adapter *a) {
    int64_t sum = wholes_elements(a);
    for (size_t i = 0; i < a->n; i++) {
        struct delta_part parts[DELTA_PARTS];
        size_t n = delta_parts(&a->deltas[i], parts);
        for (size_t k = 0; k < n; k++)
            if (parts[k].trained) sum += parts[k].rows * parts[k].cols;
    }
    return sum;
}

/* ---- one by one ---- */

size_t adapter_tensor_count(const struct adapter *a) {
    struct delta_part parts[DELTA_PARTS];
    size_t sum = a->n_wholes;
    for (size_t i = 0; i < a->n; i++) sum += delta_parts(&a->deltas[i], parts);
    return sum;
}

void adapter_tensor_at(const struct adapter *a, size_t i, struct adapter_tensor *out) {
    struct delta_part parts[DELTA_PARTS];
    for (size_t k = 0; k < a->n; k++) {
        struct delta *d = &a->deltas[k];
        size_t n = delta_parts(d, parts);
        if (i >= n) {
            i -= n;
            continue;
        }
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        snprintf(out->name, sizeof out->name, "%s.%s", name, parts[i].name);
        out->data = *delta_part_data(d, &parts[i]);
        out->rows = parts[i].rows;
        out->cols = parts[i].cols;
        return;
    }
    whole_tensor_at(a, i, out);
}

/* ---- as it is saved ---- */

void delta_saved_a(const struct delta *d, float *a) {
    int64_t n = d->r * d->n;
    for (int64_t i = 0; i < n; i++) a[i] = d->a0 ? d->a0[i] + d->da[i] : d->da[i];
    if (d->form == DELTA_PAIR) memcpy(a + n, d->da, (size_t)n * sizeof *a);
}

void delta_saved_b(const struct delta *d, float *b) {
    int64_t r = d->r, k = delta_saved_rank(d);
    const float *first = d->form == DELTA_FIXED_B ? d->b0 : d->db;
    for (int64_t i = 0; i < d->m; i++) {
        memcpy(b + i * k, first + i * r, (size_t)r * sizeof *b);
        if (d->form == DELTA_PAIR) memcpy(b + i * k + r, d->b0 + i * r, (size_t)r * sizeof *b);
        for (int64_t t = 0; d->form == DELTA_SCALED && t < r; t++) b[i * k + t] *= d->e[t];
    }
}
