/* SPDX-License-Identifier: Apache-2.0 */
/* init.c - an adapter at step 0: options resolved, modules selected, arrays made.  init_run.c then
 * fills them: each module's factors by the method's initialiser from the stored weight. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adapt/init_run.h"
#include "adapt/internal.h"
#include "adapt/whole.h"
#include "core/mem.h"

/* Give the pages of a zeroed block back until somebody writes to them: at the shapes of a 7B model
 * and rank 64, dA and dB are 440 MiB of zeros that only training needs.  The block is private
 * memory without a file behind it, so its pages read as zeros again. */
static void leave_zeros(float *block, int64_t count) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)block,
              end = begin + (uintptr_t)count * sizeof *block;
    begin = (begin + page - 1) & ~(page - 1);
    end &= ~(page - 1);
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static enum mil_status make_arrays(struct adapter *a, struct mil_error *err) {
    for (size_t i = 0; i < a->n; i++) {
        struct delta *d = &a->deltas[i];
        TRY(delta_alloc(d, err));
        if (d->da) leave_zeros(d->da, d->r * d->n);
        if (d->db) leave_zeros(d->db, d->m * d->r);
    }
    return MIL_OK;
}

/* ---- entry point ---- */

enum mil_status adapter_init(const struct checkpoint *base, const struct adapter_options *o,
                             adapter_init_fn progress, void *ctx, struct adapter **out,
                             struct mil_error *err) {
    const struct adapter_init_hooks hooks = {.progress = progress, .ctx = ctx};
    return adapter_init_with(base, o, &hooks, out, err);
}

enum mil_status adapter_init_with(const struct checkpoint *base, const struct adapter_options *o,
                                  const struct adapter_init_hooks *hooks, struct adapter **out,
                                  struct mil_error *err) {
    const struct model_config *c = &base->config;
    struct adapter_options resolved;
    const struct method *method;
    struct adapter *a = NULL;
    struct delta *shapes = NULL;
    size_t n = 0;
    enum mil_status st;
    REQUIRE(base->layers);
    *out = NULL;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(adapter_shapes(c, &resolved, method, &shapes, &n, err));
    TRY_GOTO(adapter_new(&resolved, n, &a, err));
    memcpy(a->deltas, shapes, n * sizeof *shapes);
    a->method = method;
    a->layers = c->layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", base->path);
    TRY_GOTO(checkpoint_fingerprint(base, a->base_fingerprint, err));
    TRY_GOTO(make_arrays(a, err));
    TRY_GOTO(wholes_make(a, base, err));
    TRY_GOTO(init_run(a, base, hooks, err));
    for (size_t i = 0; i < a->n; i++)
        if (a->deltas[i].dora) TRY_GOTO(dora_start(&a->deltas[i], base, err));
    *out = a;
    a = NULL;
fail:
    adapter_free(&a);
    mem_free(shapes);
    return st;
}
