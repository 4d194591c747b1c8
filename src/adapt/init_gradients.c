/* SPDX-License-Identifier: Apache-2.0 */
/* init_gradients.c - gradients of whole weights for the methods that start from them, in bounded memory.
 *
 * Modules are taken in canonical order, as many at a time as the gradients of fit into the budget, at least one.
 * Each such group costs a forward and backward pass over the samples, of which backward ends below the group's lowest
 * module: the budget is a quarter of the memory at hand, which is one group for a model of 100 million parameters and a
 * few for one of 7 billion.  A module's gradient does not depend on the group that it is in. */
#include "adapt/init_run.h"
#include "adapt/internal.h"
#include "core/mem.h"
#include "core/threads.h"

/* Where the system does not say what is at hand. */
#define UNKNOWN_MEMORY ((size_t)4 << 30)

size_t adapter_gradient_budget(void) {
    size_t available = mem_machine_available();
    return (available ? available : UNKNOWN_MEMORY) / 4;
}

static size_t bytes_of(const struct delta *d) {
    return (size_t)(d->m * d->n) * sizeof(float);
}

size_t init_group_end(const struct delta *deltas, size_t n, size_t first, size_t budget) {
    size_t end = first, bytes = 0;
    while (end < n && (end == first || bytes + bytes_of(&deltas[end]) <= budget))
        bytes += bytes_of(&deltas[end++]);
    return end;
}

static size_t group_bytes(const struct delta *deltas, size_t first, size_t end) {
    size_t bytes = 0;
    for (size_t i = first; i < end; i++) bytes += bytes_of(&deltas[i]);
    return bytes;
}

enum mil_status adapter_gradient_bytes(const struct model_config *c,
                                       const struct adapter_options *o, size_t budget,
                                       size_t *bytes, struct mil_error *err) {
    struct adapter_options resolved;
    const struct method *method;
    struct delta *deltas;
    size_t n;
    *bytes = 0;
    TRY(adapter_resolve(o, &resolved, &method, err));
    if (!method->needs_gradient) return MIL_OK;
    TRY(adapter_shapes(c, &resolved, method, &deltas, &n, err));
    if (budget == 0) budget = adapter_gradient_budget();
    for (size_t first = 0, end; first < n; first = end) {
        end = init_group_end(deltas, n, first, budget);
        size_t group = group_bytes(deltas, first, end);
        if (group > *bytes) *bytes = group;
    }
    mem_free(deltas);
    return MIL_OK;
}

enum mil_status init_gradients_open(struct init_gradients *g, const struct adapter *a, size_t first,
                                    size_t end, struct mil_error *err) {
    size_t bytes = group_bytes(a->deltas, first, end), at = 0;
    *g = (struct init_gradients){.first = first, .n = end - first};
    g->slab = mem_calloc(MEM_ADAPTER, bytes / sizeof *g->slab, sizeof *g->slab);
    g->of = mem_calloc(MEM_ADAPTER, g->n, sizeof *g->of);
    if (!g->slab || !g->of) {
        init_gradients_release(g);
        return error_nomem(err, bytes);
    }
    for (size_t i = 0; i < g->n; i++) {
        g->of[i] = g->slab + at;
        at += (size_t)(a->deltas[first + i].m * a->deltas[first + i].n);
    }
    return MIL_OK;
}

void init_gradients_release(struct init_gradients *g) {
    mem_free(g->of);
    mem_free(g->slab);
    *g = (struct init_gradients){0};
}

enum mil_status init_gradients_run(struct init_gradients *g, const struct adapter *a,
                                   const struct adapter_init_hooks *hooks, struct mil_error *err) {
    double start = clock_seconds();
    if (!hooks->gradients)
        return error_set(err, MIL_USAGE,
                         "method '%s' starts from the gradient of the loss: it needs data (milora "
                         "init: --dataset FILE; milora train: the key dataset)",
                         a->method->name);
    TRY(hooks->gradients(hooks->ctx, a->deltas + g->first, g->n, g->of, err));
    g->seconds = clock_seconds() - start;
    return MIL_OK;
}
