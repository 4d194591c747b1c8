/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_adapter.c - what an adapter is: method, form, flags, ranks, what trains as a whole, trained parameters; then
 * its configuration as it lies there.  One that cannot be loaded is a fact too, with the reason. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "adapt/adapter.h"
#include "api/inspect.h"
#include "io/file.h"

static const char *form_name(enum delta_form form) {
    switch (form) {
    case DELTA_PAIR: return "pair (A, dA; dB, B0)";
    case DELTA_FIXED_B: return "fixed B (dA; B0)";
    case DELTA_SCALED: return "scaled (P, Lambda, Q)";
    default: return "low rank (A, B)";
    }
}

static enum mil_status rank_facts(struct facts *f, const struct adapter *a, struct mil_error *err) {
    int64_t least = INT64_MAX, most = 0, sum = 0;
    double low = 0, high = 0;
    for (size_t i = 0; i < a->n; i++) {
        int64_t r = adapter_module_rank(a, i);
        double s = a->deltas[i].alpha / (double)a->deltas[i].r;
        least = r < least ? r : least;
        most = r > most ? r : most;
        sum += r;
        low = i == 0 || s < low ? s : low;
        high = i == 0 || s > high ? s : high;
    }
    TRY(facts_number(f, "adapted_modules", err, "%zu", a->n));
    if (least == most) {
        TRY(facts_number(f, "rank", err, "%" PRId64, most));
    } else {
        TRY(facts_number(f, "least_rank", err, "%" PRId64, least));
        TRY(facts_number(f, "largest_rank", err, "%" PRId64, most));
        TRY(facts_number(f, "mean_rank", err, "%.4g", (double)sum / (double)a->n));
    }
    if (low == high) return facts_number(f, "scale", err, "%.9g", low);
    TRY(facts_number(f, "least_scale", err, "%.9g", low));
    return facts_number(f, "largest_scale", err, "%.9g", high);
}

static enum mil_status flag_facts(struct facts *f, const struct adapter *a, struct mil_error *err) {
    const struct adapter_options *o = &a->options;
    struct str s = {0};
    bool dora = false;
    for (size_t i = 0; i < a->n; i++) dora |= a->deltas[i].dora;
    if (o->rslora) str_add(&s, "rsLoRA, ");
    if (dora) str_add(&s, "DoRA, ");
    if (o->lr_ratio > 0 && o->lr_ratio != 1) str_addf(&s, "LoRA+ ratio %g, ", o->lr_ratio);
    if (o->n_ranks) str_add(&s, "rank_pattern, ");
    if (o->n_alphas) str_add(&s, "alpha_pattern, ");
    enum mil_status st = str_status(&s, err);
    if (st == MIL_OK && s.len > 2)
        st = facts_add(f, "flags", strlen("flags"), str_c(&s), s.len - 2, false, err);
    str_release(&s);
    return st;
}

static enum mil_status whole_facts(struct facts *f, const struct adapter *a,
                                   struct mil_error *err) {
    size_t all = adapter_tensor_count(a), biases = 0;
    struct str s = {0};
    for (size_t i = all - a->n_wholes; i < all; i++) {
        struct adapter_tensor t;
        adapter_tensor_at(a, i, &t);
        if (str_ends(t.name, ".bias"))
            biases++;
        else
            str_addf(&s, "%s, ", t.name);
    }
    if (biases) str_addf(&s, "%zu biases, ", biases);
    enum mil_status st = str_status(&s, err);
    if (st == MIL_OK && s.len > 2)
        st = facts_add(f, "whole_tensors", strlen("whole_tensors"), str_c(&s), s.len - 2, false,
                       err);
    str_release(&s);
    return st;
}

static enum mil_status adapter_facts(struct facts *f, const struct adapter *a,
                                     struct mil_error *err) {
    char method[64];
    snprintf(method, sizeof method, "%s%s", adapter_method_name(a),
             a->method ? "" : " (PEFT's own)");
    TRY(facts_text(f, "method", method, err));
    TRY(facts_text(f, "form", form_name(a->deltas[0].form), err));
    TRY(flag_facts(f, a, err));
    TRY(rank_facts(f, a, err));
    TRY(whole_facts(f, a, err));
    return facts_number(f, "trained_parameters", err, "%" PRId64, adapter_elements(a));
}

/* Only a refusal of what the adapter is is tolerated: damage is an error. */
static enum mil_status summary(struct facts *f, const char *dir, struct mil_error *err) {
    struct adapter *a;
    struct mil_error why = {0};
    enum mil_status st = adapter_load(dir, NULL, &a, &why);
    if (st == MIL_UNSUPPORTED) {
        TRY(facts_number(f, "supported", err, "false"));
        return facts_text(f, "reason", why.message, err);
    }
    if (st != MIL_OK) {
        if (err) *err = why;
        return st;
    }
    st = adapter_facts(f, a, err);
    adapter_free(&a);
    return st;
}

static enum mil_status object_facts(struct mil_inspection *in, const char *dir, const char *name,
                                    bool required, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, name, err));
    if (!required && !path_exists(path)) return MIL_OK;
    json_t *root = NULL;
    TRY(json_read_file(path, &root, err));
    enum mil_status st = MIL_OK;
    if (!json_is_object(root))
        st = error_set(err, MIL_INPUT, "%s: not a JSON object", path);
    else if (required)
        st = facts_object(&in->facts, root, err);
    else
        st = facts_json(&in->facts, name, root, err);
    json_decref(root);
    return st;
}

enum mil_status inspect_adapter_facts(struct mil_inspection *in, const char *dir,
                                      struct mil_error *err) {
    TRY(summary(&in->facts, dir, err));
    TRY(object_facts(in, dir, "adapter_config.json", true, err));
    return object_facts(in, dir, "milora.json", false, err);
}
