/* SPDX-License-Identifier: Apache-2.0 */
/* peft_write.c - an adapter as PEFT's two files: adapter_config.json, adapter_model.safetensors.
 *
 * Keys are those that PEFT 0.10 to 0.21 read and that say something; every optional feature is
 * written at its neutral value.  Nothing in the bytes depends on the time or the machine. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"

/* ---- target_modules ---- */

/* Do all layers of the base adapt the same modules?  Then suffixes name them; otherwise only full
 * paths do, because PEFT would apply a suffix to every layer. */
static bool same_in_every_layer(const struct adapter *a, bool suffixes[MODULES]) {
    size_t per_layer = 0;
    memset(suffixes, 0, MODULES * sizeof *suffixes);
    for (size_t i = 0; i < a->n && a->deltas[i].layer == a->deltas[0].layer; i++) {
        suffixes[a->deltas[i].module] = true;
        per_layer++;
    }
    if (a->layers == 0 || per_layer * (size_t)a->layers != a->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!suffixes[a->deltas[i].module]) return false;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *target_modules(const struct adapter *a) {
    json_t *list = json_array();
    bool suffixes[MODULES];
    if (same_in_every_layer(a, suffixes)) {
        const char *names[MODULES];
        size_t n = 0;
        for (int m = 0; m < MODULES; m++)
            if (suffixes[m]) names[n++] = module_suffix((enum module)m);
        qsort(names, n, sizeof *names, by_name);
        for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
        return list;
    }
    for (size_t i = 0; i < a->n; i++) { /* canonical order: deterministic as it is */
        char name[MODULE_NAME_CAP];
        module_name(name, a->deltas[i].layer, a->deltas[i].module);
        json_array_append_new(list, json_string(name));
    }
    return list;
}

/* ---- adapter_config.json ---- */

/* 8, not 8.0, where the value is a whole number: PEFT's own files have integers. */
static json_t *number(double x) {
    return x == floor(x) && fabs(x) < 1e15 ? json_integer((json_int_t)x) : json_real(x);
}

static int64_t rank_of(const struct delta *d, bool residual) {
    return residual ? d->r : delta_saved_rank(d);
}

static double alpha_of(const struct delta *d, bool residual) {
    return residual ? d->alpha : delta_saved_alpha(d);
}

/* Modules whose rank or alpha is not the first one's, by full path. */
static void add_patterns(json_t *o, const struct adapter *a, bool residual) {
    json_t *ranks = json_object(), *alphas = json_object();
    for (size_t i = 1; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        if (rank_of(d, residual) != rank_of(a->deltas, residual))
            json_object_set_new(ranks, name, json_integer(rank_of(d, residual)));
        if (alpha_of(d, residual) != alpha_of(a->deltas, residual))
            json_object_set_new(alphas, name, number(alpha_of(d, residual)));
    }
    json_object_set_new(o, "rank_pattern", ranks);
    json_object_set_new(o, "alpha_pattern", alphas);
}

static json_t *config_json(const struct adapter *a, bool residual, const char *base_path) {
    static const char *const nulls[] = {
        "auto_mapping",        "exclude_modules",        "layer_replication", "layers_pattern",
        "layers_to_transform", "megatron_config",        "modules_to_save",   "revision",
        "target_parameters",   "trainable_token_indices"};
    int64_t r = a->n ? rank_of(a->deltas, residual) : a->options.r;
    double alpha = a->n ? alpha_of(a->deltas, residual) : a->options.alpha;
    json_t *o = json_object();
    json_object_set_new(o, "peft_type", json_string("LORA"));
    json_object_set_new(o, "task_type", json_string("CAUSAL_LM"));
    json_object_set_new(o, "base_model_name_or_path",
                        base_path && *base_path ? json_string(base_path) : json_null());
    json_object_set_new(o, "inference_mode", json_true());
    json_object_set_new(o, "r", json_integer(r));
    json_object_set_new(o, "lora_alpha", number(alpha));
    json_object_set_new(o, "lora_dropout", number(a->options.dropout));
    json_object_set_new(o, "target_modules", target_modules(a));
    add_patterns(o, a, residual);
    json_object_set_new(o, "init_lora_weights", json_true());
    json_object_set_new(o, "bias", json_string("none"));
    json_object_set_new(o, "fan_in_fan_out", json_false());
    json_object_set_new(o, "lora_bias", json_false());
    json_object_set_new(o, "use_dora", json_false());
    json_object_set_new(o, "use_rslora", json_false());
    json_object_set_new(o, "megatron_core", json_string("megatron.core"));
    json_object_set_new(o, "loftq_config", json_object());
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        json_object_set_new(o, nulls[i], json_null());
    return o;
}

/* ---- adapter_model.safetensors ---- */

#define KEY_CAP (MODULE_NAME_CAP + 48)

static void key_of(char out[KEY_CAP], const struct delta *d, char factor) {
    char name[MODULE_NAME_CAP];
    module_name(name, d->layer, d->module);
    snprintf(out, KEY_CAP, "base_model.model.%s.lora_%c.weight", name, factor);
}

/* A (rank-r) = A0 + dA and B = B0 + dB: what the residual layout trains. */
static void whole_a(const struct delta *d, float *a) {
    for (int64_t i = 0; i < d->r * d->n; i++) a[i] = d->a0[i] + d->da[i];
}

static void whole_b(const struct delta *d, float *b) {
    for (int64_t i = 0; i < d->m * d->r; i++) b[i] = (d->b0 ? d->b0[i] : 0) + d->db[i];
}

static enum mil_status put_factors(struct st_writer *w, const struct delta *d, bool residual,
                                   float *buffer, struct mil_error *err) {
    int64_t k = rank_of(d, residual);
    if (residual)
        whole_a(d, buffer);
    else
        delta_saved_a(d, buffer);
    TRY(st_writer_put(w, buffer, (size_t)(k * d->n) * sizeof *buffer, err));
    if (residual)
        whole_b(d, buffer);
    else
        delta_saved_b(d, buffer);
    return st_writer_put(w, buffer, (size_t)(d->m * k) * sizeof *buffer, err);
}

static enum mil_status write_tensors(const struct adapter *a, const char *path, bool residual,
                                     struct mil_error *err) {
    struct st_decl *decls = mem_calloc(MEM_IO, 2 * a->n, sizeof *decls);
    char(*keys)[KEY_CAP] = mem_alloc(MEM_IO, 2 * a->n, sizeof *keys);
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    struct st_writer *w = NULL;
    float *buffer = NULL;
    int64_t most = 0;
    enum mil_status st = MIL_OK;
    if (!decls || !keys || !metadata) {
        st = error_nomem(err, 2 * a->n * (sizeof *decls + sizeof *keys));
        goto fail;
    }
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        int64_t k = rank_of(d, residual);
        key_of(keys[2 * i], d, 'A');
        key_of(keys[2 * i + 1], d, 'B');
        decls[2 * i] = (struct st_decl){keys[2 * i], DT_F32, 2, {k, d->n}};
        decls[2 * i + 1] = (struct st_decl){keys[2 * i + 1], DT_F32, 2, {d->m, k}};
        int64_t widest = k * (d->m > d->n ? d->m : d->n);
        if (widest > most) most = widest;
    }
    buffer = mem_alloc(MEM_IO, (size_t)most, sizeof *buffer);
    if (!buffer) {
        st = error_nomem(err, (uint64_t)most * sizeof *buffer);
        goto fail;
    }
    TRY_GOTO(st_writer_new(path, metadata, decls, 2 * a->n, &w, err));
    for (size_t i = 0; i < a->n; i++)
        TRY_GOTO(put_factors(w, &a->deltas[i], residual, buffer, err));
    st = st_writer_commit(&w, err);
fail:
    st_writer_free(&w);
    mem_free(buffer);
    json_decref(metadata);
    mem_free(keys);
    mem_free(decls);
    return st;
}

enum mil_status peft_write(const struct adapter *a, const char *dir, bool residual,
                           const char *base_path, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "adapter_model.safetensors", err));
    TRY(write_tensors(a, path, residual, err));
    TRY(path_join(path, dir, "adapter_config.json", err));
    json_t *config = config_json(a, residual, base_path);
    if (!config) return error_nomem(err, 0);
    enum mil_status st = json_write_file(path, config, err);
    json_decref(config);
    return st;
}
