/* SPDX-License-Identifier: Apache-2.0 */
/* continue.c - a loaded adapter gets the options under which it trains on: its deltas must be those that the options
 * would make.  The scale stays the one of its file. */
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"

static enum mil_status check_delta(const struct delta *have, const struct delta *want,
                                   struct mil_error *err) {
    char name[MODULE_NAME_CAP];
    if (have->layer == want->layer && have->module == want->module && have->r == want->r &&
        have->form == want->form && have->dora == want->dora)
        return MIL_OK;
    module_name(name, have->layer, have->module);
    return error_set(
        err, MIL_USAGE,
        "%s has rank %lld in the adapter%s, which the configuration does not say: give "
        "the keys that describe it as the adapter has them",
        name, (long long)have->r, have->dora ? " and a magnitude" : "");
}

static enum mil_status check_deltas(const struct adapter *a, const struct model_config *c,
                                    const struct adapter_options *o, const struct method *method,
                                    struct mil_error *err) {
    struct delta *want;
    size_t n;
    TRY(adapter_shapes(c, o, method, &want, &n, err));
    enum mil_status st = MIL_OK;
    if (n != a->n)
        st = error_set(err, MIL_USAGE, "it adapts %zu modules, the configuration names %zu", a->n,
                       n);
    for (size_t i = 0; i < n && st == MIL_OK; i++) st = check_delta(&a->deltas[i], &want[i], err);
    mem_free(want);
    return st;
}

enum mil_status adapter_continue(struct adapter *a, const struct checkpoint *base,
                                 const struct adapter_options *o, struct mil_error *err) {
    struct adapter_options resolved, own;
    const struct method *method;
    TRY(adapter_resolve(o, &resolved, &method, err));
    TRY(check_deltas(a, &base->config, &resolved, method, err));
    TRY(options_copy(&resolved, &own, err));
    options_release(&a->options);
    a->options = own;
    a->method = method;
    a->layers = base->config.layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", base->path);
    return *a->base_fingerprint ? MIL_OK : checkpoint_fingerprint(base, a->base_fingerprint, err);
}
