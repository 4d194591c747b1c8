/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c - the host side of an adapter: its storage. */
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"

/* ---- storage ---- */

static char *copy_string(const char *s, bool *failed) {
    if (!s) return NULL;
    char *copy = mem_strdup(MEM_ADAPTER, s);
    if (!copy) *failed = true;
    return copy;
}

enum mil_status adapter_new(const struct adapter_options *o, size_t n, struct adapter **out,
                            struct mil_error *err) {
    bool failed = false;
    *out = NULL;
    struct adapter *a = mem_calloc(MEM_ADAPTER, 1, sizeof *a);
    if (!a) return error_nomem(err, sizeof *a);
    a->options = *o;
    a->options.n_targets = 0;
    a->options.method = copy_string(o->method, &failed);
    const char **targets = mem_calloc(MEM_ADAPTER, o->n_targets + 1, sizeof *targets);
    a->options.targets = targets;
    for (size_t i = 0; targets && i < o->n_targets; i++) {
        targets[i] = copy_string(o->targets[i], &failed);
        a->options.n_targets++;
    }
    a->deltas = mem_calloc(MEM_ADAPTER, n, sizeof *a->deltas);
    a->n = a->deltas ? n : 0;
    if (failed || !targets || !a->deltas) {
        adapter_free(&a);
        return error_nomem(err, n * sizeof *a->deltas);
    }
    *out = a;
    return MIL_OK;
}

void adapter_free(struct adapter **p) {
    struct adapter *a = *p;
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->deltas[i].a0);
        mem_free(a->deltas[i].b0);
        mem_free(a->deltas[i].da);
        mem_free(a->deltas[i].db);
    }
    for (size_t i = 0; i < a->options.n_targets; i++) mem_free((void *)a->options.targets[i]);
    mem_free((void *)a->options.targets);
    mem_free((void *)a->options.method);
    mem_free(a->deltas);
    mem_free(a);
    *p = NULL;
}

enum mil_status delta_alloc(struct delta *d, bool with_b0, struct mil_error *err) {
    size_t a = (size_t)d->r * (size_t)d->n, b = (size_t)d->m * (size_t)d->r;
    d->a0 = mem_calloc(MEM_ADAPTER, a, sizeof(float));
    d->da = mem_calloc(MEM_ADAPTER, a, sizeof(float));
    d->db = mem_calloc(MEM_ADAPTER, b, sizeof(float));
    if (with_b0) d->b0 = mem_calloc(MEM_ADAPTER, b, sizeof(float));
    if (d->a0 && d->da && d->db && (d->b0 || !with_b0)) return MIL_OK;
    return error_nomem(err, (2 * a + 2 * b) * sizeof(float));
}

int64_t adapter_elements(const struct adapter *a) {
    int64_t sum = 0;
    for (size_t i = 0; i < a->n; i++) sum += a->deltas[i].r * (a->deltas[i].m + a->deltas[i].n);
    return sum;
}

void delta_saved_a(const struct delta *d, float *a) {
    int64_t n = d->r * d->n;
    for (int64_t i = 0; i < n; i++) a[i] = d->a0[i] + d->da[i];
    if (d->b0) memcpy(a + n, d->da, (size_t)n * sizeof *a);
}

void delta_saved_b(const struct delta *d, float *b) {
    int64_t r = d->r, k = delta_saved_rank(d);
    for (int64_t i = 0; i < d->m; i++) {
        memcpy(b + i * k, d->db + i * r, (size_t)r * sizeof *b);
        if (d->b0) memcpy(b + i * k + r, d->b0 + i * r, (size_t)r * sizeof *b);
    }
}
