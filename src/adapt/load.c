/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - reading an adapter directory: ours (milora.json beside PEFT's files) or PEFT's own.
 *
 * Ours of rank 2r is split back: A = A'[0:r], dA = A'[r:2r], dB = B'[:, 0:r], B0 = B'[:, r:2r],
 * A0 = A - dA.  A was rounded when it was summed, so A0 is chosen among the floats next to A - dA
 * such that A0 + dA gives A again: loading and saving repeats the file's bytes, and the adapter
 * computes with exactly the stored factors.  (The A0 of the training run itself is in the
 * checkpoint's adapter state.)  A plain LoRA has A0 = A, dA = 0. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "kern/dequant.h"

/* milora.json, as far as loading needs it. */
struct side_file {
    json_t *json;                /* owns the strings */
    const struct method *method; /* NULL: there is none */
    const char **targets;        /* as the user named them */
    size_t n_targets;
    bool targets_regex;
    int64_t r, layers, seed;
    double alpha, dropout;
    char fingerprint[HASH_HEX];
};

struct loading {
    const char *dir;
    struct peft_config config;
    struct side_file side;
    struct st_file *file;
    int64_t layers; /* of the base, or as many as the tensors show */
    bool *selected;
    struct adapter *adapter;
};

/* ---- milora.json ---- */

static enum mil_status read_side_fields(const json_t *o, const char *path, struct side_file *s,
                                        struct mil_error *err) {
    const char *format = NULL, *method = NULL, *fingerprint = "";
    int64_t version = 0;
    TRY(json_member_str(o, path, "format", true, &format, err));
    if (strcmp(format, "milora-adapter") != 0)
        return error_set(err, MIL_INPUT, "%s: format is '%.32s', not 'milora-adapter'", path,
                         format);
    TRY(json_member_i64(o, path, "version", true, 1, INT64_MAX, &version, err));
    if (version > 1)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: format version %lld, this program reads 1; use a newer milora", path,
                         (long long)version);
    TRY(json_member_str(o, path, "method", true, &method, err));
    enum mil_status st = method_find(method, &s->method, err);
    if (st != MIL_OK) {
        error_prefix(err, "%s: ", path);
        return st;
    }
    if (!s->method->adapter)
        return error_set(err, MIL_INPUT, "%s: method '%s' has no adapter", path, method);
    TRY(json_member_i64(o, path, "r", true, 1, MODEL_MAX_WIDTH, &s->r, err));
    TRY(json_member_f64(o, path, "lora_alpha", true, 1e-9, 1e9, &s->alpha, err));
    TRY(json_member_f64(o, path, "lora_dropout", false, 0, 0.999999, &s->dropout, err));
    TRY(json_member_i64(o, path, "seed", false, INT64_MIN, INT64_MAX, &s->seed, err));
    bool is_string;
    TRY(targets_read(o, "target_modules", &s->targets, &s->n_targets, &is_string, err));
    TRY(json_member_bool(o, path, "target_modules_regex", false, &s->targets_regex, err));
    const json_t *base = json_object_get(o, "base");
    if (!json_is_object(base)) return error_set(err, MIL_INPUT, "%s: 'base' is missing", path);
    TRY(json_member_i64(base, path, "layers", true, 1, MODEL_MAX_LAYERS, &s->layers, err));
    TRY(json_member_str(base, path, "fingerprint", false, &fingerprint, err));
    snprintf(s->fingerprint, sizeof s->fingerprint, "%s", fingerprint);
    return MIL_OK;
}

static enum mil_status read_side_file(struct loading *l, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, l->dir, "milora.json", err));
    if (!path_exists(path)) return MIL_OK;
    TRY(json_read_file(path, &l->side.json, err));
    TRY(read_side_fields(l->side.json, path, &l->side, err));
    int64_t saved = l->side.method->form == DELTA_PAIR ? 2 * l->side.r : l->side.r;
    if (l->config.r != saved)
        return error_set(err, MIL_INPUT,
                         "%s: r is %lld, so adapter_config.json must say %lld, but says %lld", path,
                         (long long)l->side.r, (long long)saved, (long long)l->config.r);
    return MIL_OK;
}

/* ---- the tensors ---- */

static enum mil_status open_tensors(struct loading *l, struct mil_error *err) {
    char path[PATH_CAP], pickle[PATH_CAP];
    TRY(path_join(path, l->dir, "adapter_model.safetensors", err));
    TRY(path_join(pickle, l->dir, "adapter_model.bin", err));
    if (!path_exists(path) && path_exists(pickle))
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: pickled adapters are not read, they can run code; save it again with "
                         "safe_serialization=True",
                         pickle);
    return st_open(path, &l->file, err);
}

/* Layers that the tensors' names show: the largest "layers.<n>." plus 1. */
static int64_t layers_seen(const struct st_file *f) {
    int64_t most = 0;
    for (size_t i = 0; i < st_count(f); i++) {
        const char *at = strstr(st_at(f, i)->name, ".layers.");
        if (!at || at[8] < '0' || at[8] > '9') continue;
        errno = 0;
        long long n = strtoll(at + 8, NULL, 10);
        if (errno == 0 && n < MODEL_MAX_LAYERS && n + 1 > most) most = n + 1;
    }
    return most;
}

static const struct st_tensor *find_factor(const struct st_file *f, const char *module,
                                           char factor) {
    char key[MODULE_NAME_CAP + 48];
    snprintf(key, sizeof key, "base_model.model.%s.lora_%c.weight", module, factor);
    return st_find(f, key);
}

/* Find one factor, check its type and shape, and give it as finite f32 (mem_free). A length of 0
 * is taken from the tensor. */
static enum mil_status read_factor(const struct st_file *f, const char *module, char factor,
                                   int64_t *rows, int64_t *cols, float **out,
                                   struct mil_error *err) {
    const struct st_tensor *t = find_factor(f, module, factor);
    if (!t)
        return error_set(err, MIL_INPUT,
                         "adapter_model.safetensors: %s is adapted (target_modules), but its "
                         "lora_%c.weight is missing",
                         module, factor);
    if (t->ndim == 2 && *rows == 0) *rows = t->shape[0];
    if (t->ndim == 2 && *cols == 0) *cols = t->shape[1];
    if (t->ndim != 2 || t->shape[0] != *rows || t->shape[1] != *cols || *rows < 1 || *cols < 1 ||
        *rows > MODEL_MAX_WIDTH || *cols > MODEL_MAX_WIDTH)
        return error_set(err, MIL_INPUT,
                         "%s: shape is [%lld, %lld] (%d dimensions), not [%lld, %lld]", t->name,
                         (long long)t->shape[0], (long long)t->shape[1], t->ndim, (long long)*rows,
                         (long long)*cols);
    if (!dtype_is_float(t->dtype))
        return error_set(err, MIL_INPUT, "%s: type %s is not floating point", t->name,
                         dtype_name(t->dtype));
    int64_t n = *rows * *cols;
    *out = mem_alloc(MEM_ADAPTER, (size_t)n, sizeof **out);
    if (!*out) return error_nomem(err, (uint64_t)n * sizeof **out);
    dequant_to_f32(t->dtype, t->data, n, *out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite((*out)[i]))
            return error_set(err, MIL_INPUT, "%s: entry (%lld, %lld) is not finite", t->name,
                             (long long)(i / *cols), (long long)(i % *cols));
    return MIL_OK;
}

/* A float x next to a - d with x + d == a in f32, or the nearest to a - d where there is none. */
static float split_sum(float a, float d) {
    float near = a - d, x = near;
    if (near + d == a) return near;
    for (int i = 0; i < 2; i++)
        if ((x = nextafterf(x, INFINITY)) + d == a) return x;
    x = near;
    for (int i = 0; i < 2; i++)
        if ((x = nextafterf(x, -INFINITY)) + d == a) return x;
    return near;
}

/* Distribute the saved factors over d's arrays. */
static void split_factors(struct delta *d, const float *a, const float *b) {
    int64_t rn = d->r * d->n, r = d->r;
    if (!d->b0) {
        memcpy(d->a0, a, (size_t)rn * sizeof *a);
        memcpy(d->db, b, (size_t)(d->m * r) * sizeof *b);
        return;
    }
    memcpy(d->da, a + rn, (size_t)rn * sizeof *a);
    for (int64_t i = 0; i < rn; i++) d->a0[i] = split_sum(a[i], d->da[i]);
    for (int64_t i = 0; i < d->m; i++) {
        memcpy(d->db + i * r, b + i * 2 * r, (size_t)r * sizeof *b);
        memcpy(d->b0 + i * r, b + i * 2 * r + r, (size_t)r * sizeof *b);
    }
}

static enum mil_status load_delta(const struct loading *l, struct delta *d, struct mil_error *err) {
    bool doubled = l->side.method && l->side.method->form == DELTA_PAIR;
    char module[MODULE_NAME_CAP];
    float *a = NULL, *b = NULL;
    int64_t rank = 0;
    module_name(module, d->layer, d->module);
    TRY(peft_config_rank(&l->config, module, &rank, &d->alpha, err));
    if (doubled && rank != 2 * l->side.r)
        return error_set(err, MIL_INPUT, "%s: rank %lld, but milora.json says r = %lld, twice that",
                         module, (long long)rank, (long long)l->side.r);
    d->r = doubled ? l->side.r : rank;
    if (doubled) d->alpha /= 2;
    enum mil_status st;
    TRY_GOTO(read_factor(l->file, module, 'A', &rank, &d->n, &a, err));
    TRY_GOTO(read_factor(l->file, module, 'B', &d->m, &rank, &b, err));
    d->form = doubled ? DELTA_PAIR : DELTA_LORA;
    TRY_GOTO(delta_alloc(d, err));
    split_factors(d, a, b);
    for (int64_t i = 0; i < d->r * d->n; i++)
        if (!isfinite(d->a0[i])) { /* A and dA near the largest float, of opposite signs */
            st = error_set(err, MIL_INPUT, "%s: A - dA overflows in lora_A.weight", module);
            goto fail;
        }
fail:
    mem_free(b);
    mem_free(a);
    return st;
}

/* Every tensor of the file belongs to a selected module. */
static enum mil_status check_no_extra(const struct loading *l, struct mil_error *err) {
    if (st_count(l->file) == 2 * l->adapter->n) return MIL_OK;
    for (size_t i = 0; i < st_count(l->file); i++) {
        const char *name = st_at(l->file, i)->name;
        bool expected = false;
        for (size_t j = 0; j < l->adapter->n && !expected; j++) {
            char module[MODULE_NAME_CAP];
            module_name(module, l->adapter->deltas[j].layer, l->adapter->deltas[j].module);
            expected = find_factor(l->file, module, 'A') == st_at(l->file, i) ||
                       find_factor(l->file, module, 'B') == st_at(l->file, i);
        }
        if (!expected)
            return error_set(err, MIL_INPUT,
                             "adapter_model.safetensors: tensor '%.128s' belongs to no module that "
                             "adapter_config.json adapts",
                             name);
    }
    return MIL_OK;
}

/* ---- assembly ---- */

static enum mil_status new_adapter(struct loading *l, const struct checkpoint *base,
                                   struct mil_error *err) {
    const struct peft_config *c = &l->config;
    const struct side_file *s = &l->side;
    struct adapter_options o = {.method = s->method ? s->method->name : NULL,
                                .r = s->method ? s->r : c->r,
                                .alpha = s->method ? s->alpha : c->alpha,
                                .dropout = s->method ? s->dropout : c->dropout,
                                .targets = s->method ? s->targets : c->targets,
                                .n_targets = s->method ? s->n_targets : c->n_targets,
                                .targets_regex = s->method ? s->targets_regex : c->targets_regex,
                                .seed = (uint64_t)s->seed};
    size_t n = 0;
    for (int64_t i = 0; i < l->layers * MODULES; i++) n += l->selected[i];
    if (n == 0)
        return error_set(err, MIL_INPUT, "%s: target_modules names no module that can be adapted",
                         l->dir);
    TRY(adapter_new(&o, n, &l->adapter, err));
    struct adapter *a = l->adapter;
    a->method = s->method;
    a->layers = base ? base->config.layers : s->layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", c->base_path ? c->base_path : "");
    memcpy(a->base_fingerprint, s->fingerprint, sizeof a->base_fingerprint);
    struct delta *d = a->deltas;
    for (int64_t i = 0; i < l->layers * MODULES; i++)
        if (l->selected[i]) {
            d->layer = i / MODULES;
            d->module = (enum module)(i % MODULES);
            d++;
        }
    return MIL_OK;
}

enum mil_status adapter_check_base(const struct adapter *a, const struct model_config *c,
                                   struct mil_error *err) {
    if (a->layers && a->layers != c->layers)
        return error_set(err, MIL_MISMATCH,
                         "the adapter is for a model of %lld layers, this one has %lld",
                         (long long)a->layers, (long long)c->layers);
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i];
        char name[MODULE_NAME_CAP];
        module_name(name, d->layer, d->module);
        if (d->layer >= c->layers)
            return error_set(err, MIL_MISMATCH, "the adapter has %s, the model only %lld layers",
                             name, (long long)c->layers);
        if (d->m != module_rows(c, d->module) || d->n != module_cols(c, d->module))
            return error_set(err, MIL_MISMATCH,
                             "%s is %lld x %lld in the adapter, %lld x %lld in the model", name,
                             (long long)d->m, (long long)d->n, (long long)module_rows(c, d->module),
                             (long long)module_cols(c, d->module));
    }
    return MIL_OK;
}

static enum mil_status check_fingerprint(const struct adapter *a, const struct checkpoint *base,
                                         struct mil_error *err) {
    char have[HASH_HEX];
    if (!*a->base_fingerprint || !base->layers) return MIL_OK;
    TRY(checkpoint_fingerprint(base, have, err));
    if (strcmp(have, a->base_fingerprint) == 0) return MIL_OK;
    return error_set(err, MIL_MISMATCH,
                     "the adapter was made for base %.8s..., this model is %.8s...: give the model "
                     "it was made from (%.200s)",
                     a->base_fingerprint, have, a->base_path);
}

static enum mil_status load_all(struct loading *l, const struct checkpoint *base,
                                struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, l->dir, "adapter_config.json", err));
    TRY(peft_config_read(path, &l->config, err));
    TRY(read_side_file(l, err));
    TRY(open_tensors(l, err));
    l->layers = base ? base->config.layers : l->side.layers ? l->side.layers : layers_seen(l->file);
    l->selected = mem_calloc(MEM_OTHER, (size_t)l->layers * MODULES, sizeof *l->selected);
    if (!l->selected) return error_nomem(err, 0);
    TRY(peft_config_select(&l->config, l->layers, l->selected, err));
    TRY(new_adapter(l, base, err));
    if (base && l->side.layers && l->side.layers != l->layers)
        return error_set(err, MIL_MISMATCH,
                         "the adapter is for a model of %lld layers, this one has %lld",
                         (long long)l->side.layers, (long long)l->layers);
    for (size_t i = 0; i < l->adapter->n; i++) TRY(load_delta(l, &l->adapter->deltas[i], err));
    TRY(check_no_extra(l, err));
    if (!base) return MIL_OK;
    TRY(adapter_check_base(l->adapter, &base->config, err));
    return check_fingerprint(l->adapter, base, err);
}

enum mil_status adapter_load(const char *dir, const struct checkpoint *base, struct adapter **out,
                             struct mil_error *err) {
    struct loading l = {.dir = dir};
    *out = NULL;
    enum mil_status st = load_all(&l, base, err);
    if (st == MIL_OK) {
        *out = l.adapter;
        l.adapter = NULL;
    } else if (err && !strstr(err->message, dir)) {
        error_prefix(err, "%s: ", dir);
    }
    adapter_free(&l.adapter);
    mem_free(l.selected);
    st_free(&l.file);
    peft_config_release(&l.config);
    mem_free(l.side.targets);
    json_decref(l.side.json);
    return st;
}
