/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - reading an adapter directory: ours (milora.json beside PEFT's files) or PEFT's own.
 *
 * adapter_config.json says which modules there are, load_delta.c reads their factors, load_whole.c what trains as a
 * whole; then every tensor of the file must have been used.  docs/formats/adapter.md has the format. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/file.h"
#include "kern/dequant.h"

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
    TRY(st_open(path, &l->file, err));
    l->used = mem_calloc(MEM_OTHER, st_count(l->file), sizeof *l->used);
    return l->used ? MIL_OK : error_nomem(err, st_count(l->file));
}

const struct st_tensor *loading_find(struct loading *l, const char *key) {
    const struct st_tensor *t = st_find(l->file, key);
    if (t) l->used[t - st_at(l->file, 0)] = true;
    return t;
}

static enum mil_status check_shape(const struct st_tensor *t, struct wanted_shape want,
                                   struct mil_error *err) {
    int dims = want.vector ? 1 : 2;
    int64_t one = 1, *rows = want.vector ? &one : want.rows, *cols = want.cols;
    int64_t have_rows = dims == 2 && t->ndim == 2 ? t->shape[0] : 1,
            have_cols = t->ndim == dims ? t->shape[dims - 1] : 0;
    if (*rows == 0 && !want.empty) *rows = have_rows;
    if (*cols == 0 && !want.empty) *cols = have_cols;
    int64_t least = want.empty ? 0 : 1;
    if (t->ndim == dims && have_rows == *rows && have_cols == *cols && *rows >= least &&
        *cols >= least && *rows <= MODEL_MAX_VOCAB && *cols <= MODEL_MAX_WIDTH)
        return MIL_OK;
    if (want.vector)
        return error_set(err, MIL_INPUT, "%s: shape is [%lld] (%d dimensions), not [%lld]", t->name,
                         (long long)(t->ndim ? t->shape[0] : 0), t->ndim, (long long)*cols);
    return error_set(err, MIL_INPUT, "%s: shape is [%lld, %lld] (%d dimensions), not [%lld, %lld]",
                     t->name, (long long)t->shape[0], (long long)t->shape[1], t->ndim,
                     (long long)*rows, (long long)*cols);
}

enum mil_status tensor_read(const struct st_tensor *t, struct wanted_shape want, float **out,
                            struct mil_error *err) {
    TRY(check_shape(t, want, err));
    if (!dtype_is_float(t->dtype))
        return error_set(err, MIL_INPUT, "%s: type %s is not floating point", t->name,
                         dtype_name(t->dtype));
    int64_t cols = *want.cols, n = want.vector ? cols : *want.rows * cols;
    *out = mem_alloc(MEM_ADAPTER, (size_t)n, sizeof **out);
    if (!*out) return error_nomem(err, (uint64_t)n * sizeof **out);
    dequant_to_f32(t->dtype, t->data, n, *out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite((*out)[i]))
            return error_set(err, MIL_INPUT, "%s: entry (%lld, %lld) is not finite", t->name,
                             (long long)(i / cols), (long long)(i % cols));
    return MIL_OK;
}

/* ---- nothing is left over ---- */

static enum mil_status left_over(const char *name, struct mil_error *err) {
    static const struct {
        const char *part, *remedy;
    } hints[] = {
        {"lora_embedding_", "a low-rank adapter of the embeddings is not supported: merge it with "
                            "PEFT first"},
        {"lm_head.lora_", "a low-rank adapter of the head is not supported: merge it with PEFT "
                          "first"},
        {"embed_tokens.", "embeddings saved beside the adapter need modules_to_save: merge it with "
                          "PEFT first"},
        {"lora_magnitude_vector", "a magnitude belongs to use_dora, which is not set"},
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strstr(name, hints[i].part))
            return error_set(err, MIL_INPUT, "adapter_model.safetensors: tensor '%.128s': %s", name,
                             hints[i].remedy);
    return error_set(err, MIL_INPUT,
                     "adapter_model.safetensors: tensor '%.128s' belongs to no module that "
                     "adapter_config.json adapts",
                     name);
}

static enum mil_status check_no_extra(const struct loading *l, struct mil_error *err) {
    for (size_t i = 0; i < st_count(l->file); i++)
        if (!l->used[i]) return left_over(st_at(l->file, i)->name, err);
    return MIL_OK;
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

/* ---- assembly ---- */

static enum mil_status new_adapter(struct loading *l, struct mil_error *err) {
    const struct side_file *s = &l->side;
    size_t n = 0;
    for (int64_t i = 0; i < l->layers * MODULES; i++) n += l->selected[i];
    if (n == 0)
        return error_set(err, MIL_INPUT, "%s: target_modules names no module that can be adapted",
                         l->dir);
    TRY(adapter_new(s->method ? &s->options : &l->config.options, n, &l->adapter, err));
    struct adapter *a = l->adapter;
    const char *base_path = l->config.base_path;
    a->method = s->method;
    a->layers = l->base ? l->base->layers : s->layers;
    snprintf(a->base_path, sizeof a->base_path, "%s", base_path ? base_path : "");
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

static enum mil_status load_deltas(struct loading *l, struct mil_error *err) {
    struct adapter *a = l->adapter;
    for (size_t i = 0; i < a->n; i++) TRY(delta_load(l, &a->deltas[i], err));
    if (l->masks == peft_config_masks(&l->config)) return MIL_OK;
    return error_set(err, MIL_INPUT,
                     "rank_pattern: %zu of its masks are of no adapted module's lora_E",
                     peft_config_masks(&l->config) - l->masks);
}

static enum mil_status check_shapes(const struct adapter *a, const struct model_config *c,
                                    struct mil_error *err) {
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

static enum mil_status check_whole(const struct whole *w, const struct model_config *c,
                                   struct mil_error *err) {
    bool bias = w->kind == WHOLE_BIAS;
    char name[MODULE_NAME_CAP + 16];
    whole_name(w, name, sizeof name);
    if (bias && (w->layer >= c->layers || !module_has_bias(c, w->module)))
        return error_set(err, MIL_MISMATCH, "the adapter has %s, the model has no such bias", name);
    int64_t rows = bias ? 1 : c->vocab, cols = bias ? module_rows(c, w->module) : c->width;
    if (w->rows == rows && w->cols == cols) return MIL_OK;
    return error_set(err, MIL_MISMATCH,
                     "%s is %lld x %lld in the adapter, %lld x %lld in the model", name,
                     (long long)w->rows, (long long)w->cols, (long long)rows, (long long)cols);
}

enum mil_status adapter_check_base(const struct adapter *a, const struct model_config *c,
                                   struct mil_error *err) {
    if (a->layers && a->layers != c->layers)
        return error_set(err, MIL_MISMATCH,
                         "the adapter is for a model of %lld layers, this one has %lld",
                         (long long)a->layers, (long long)c->layers);
    TRY(check_shapes(a, c, err));
    for (size_t i = 0; i < a->n_wholes; i++) TRY(check_whole(&a->wholes[i], c, err));
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

/* milora.json and adapter_config.json speak of the same thing. */
static enum mil_status check_side_file(const struct loading *l, struct mil_error *err) {
    const struct side_file *s = &l->side;
    if (!s->method) return MIL_OK;
    enum peft_kind kind = s->method->form == DELTA_SCALED ? PEFT_ADALORA : PEFT_LORA;
    if (l->config.kind != kind)
        return error_set(err, MIL_INPUT,
                         "milora.json: method is '%s', so adapter_config.json must have peft_type "
                         "%s",
                         s->method->name, kind == PEFT_ADALORA ? "ADALORA" : "LORA");
    if (l->config.options.dora != s->options.dora)
        return error_set(
            err, MIL_INPUT, "use_dora is %s in milora.json, but %s in adapter_config.json",
            s->options.dora ? "true" : "false", l->config.options.dora ? "true" : "false");
    if (!l->base || s->layers == l->base->layers) return MIL_OK;
    return error_set(err, MIL_MISMATCH,
                     "the adapter is for a model of %lld layers, this one has %lld",
                     (long long)s->layers, (long long)l->base->layers);
}

static enum mil_status load_all(struct loading *l, const struct checkpoint *base,
                                struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, l->dir, "adapter_config.json", err));
    TRY(peft_config_read(path, &l->config, err));
    TRY(side_file_read(l->dir, &l->side, err));
    TRY(check_side_file(l, err));
    TRY(open_tensors(l, err));
    l->layers = l->base ? l->base->layers : l->side.layers ? l->side.layers : layers_seen(l->file);
    l->selected = mem_calloc(MEM_OTHER, (size_t)l->layers * MODULES, sizeof *l->selected);
    if (!l->selected) return error_nomem(err, 0);
    TRY(select_options(l->layers, &l->config.options, false, l->selected, err));
    TRY(new_adapter(l, err));
    TRY(load_deltas(l, err));
    TRY(wholes_load(l, err));
    TRY(check_no_extra(l, err));
    if (!base) return MIL_OK;
    TRY(adapter_check_base(l->adapter, &base->config, err));
    return check_fingerprint(l->adapter, base, err);
}

enum mil_status adapter_load(const char *dir, const struct checkpoint *base, struct adapter **out,
                             struct mil_error *err) {
    struct loading l = {.dir = dir, .base = base ? &base->config : NULL};
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
    mem_free(l.used);
    st_free(&l.file);
    peft_config_release(&l.config);
    side_file_release(&l.side);
    return st;
}
