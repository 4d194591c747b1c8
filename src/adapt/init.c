/* SPDX-License-Identifier: Apache-2.0 */
/* init.c - an adapter at step 0: options checked, modules selected, arrays made.  init_run.c then
 * fills them: each module's factors by the method's initialiser from the stored weight. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adapt/init_run.h"
#include "adapt/internal.h"
#include "core/mem.h"

static enum mil_status check_options(const struct adapter_options *o, const struct method **method,
                                     double *alpha, struct mil_error *err) {
    TRY(method_find(o->method, method, err));
    if (!(*method)->adapter)
        return error_set(err, MIL_USAGE,
                         "method '%s' trains the weights themselves: it has no adapter", o->method);
    if (o->r < 1)
        return error_set(err, MIL_USAGE, "r is %lld: it must be at least 1", (long long)o->r);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return error_set(err, MIL_USAGE, "lora_dropout is %g: it must lie in [0, 1)", o->dropout);
    *alpha = o->alpha > 0 ? o->alpha : (*method)->alpha_over_r * (double)o->r;
    if (!isfinite(*alpha) || isnan(o->alpha))
        return error_set(err, MIL_USAGE, "lora_alpha is %g: it must be finite", o->alpha);
    return MIL_OK;
}

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

/* Fill in what each selected module is, and its arrays. */
static enum mil_status fill_shapes(struct adapter *a, const struct model_config *c,
                                   const bool *selected, struct mil_error *err) {
    struct delta *d = a->deltas;
    for (int64_t i = 0; i < c->layers * MODULES; i++) {
        if (!selected[i]) continue;
        d->layer = i / MODULES;
        d->module = (enum module)(i % MODULES);
        d->m = module_rows(c, d->module);
        d->n = module_cols(c, d->module);
        d->r = a->options.r;
        d->alpha = a->options.alpha;
        if (d->r > d->m || d->r > d->n)
            return error_set(
                err, MIL_USAGE,
                "r is %lld, but model.layers.%lld.%s is %lld x %lld: r is at most %lld",
                (long long)d->r, (long long)d->layer, module_path(d->module), (long long)d->m,
                (long long)d->n, (long long)(d->m < d->n ? d->m : d->n));
        TRY(delta_alloc(d, !a->method->b0_is_zero, err));
        leave_zeros(d->da, d->r * d->n);
        leave_zeros(d->db, d->m * d->r);
        d++;
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
    struct adapter_options resolved = *o;
    const struct method *method;
    struct adapter *a = NULL;
    size_t n = 0;
    REQUIRE(base->layers);
    *out = NULL;
    TRY(check_options(o, &method, &resolved.alpha, err));
    bool *selected = mem_calloc(MEM_OTHER, (size_t)c->layers * MODULES, sizeof *selected);
    if (!selected) return error_nomem(err, 0);
    enum mil_status st;
    TRY_GOTO(adapter_select(c, o, selected, err));
    for (int64_t i = 0; i < c->layers * MODULES; i++) n += selected[i];
    TRY_GOTO(adapter_new(&resolved, n, &a, err));
    a->method = method;
    a->layers = c->layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", base->path);
    TRY_GOTO(checkpoint_fingerprint(base, a->base_fingerprint, err));
    TRY_GOTO(fill_shapes(a, c, selected, err));
    TRY_GOTO(init_run(a, base, hooks, err));
    *out = a;
    a = NULL;
fail:
    adapter_free(&a);
    mem_free(selected);
    return st;
}
