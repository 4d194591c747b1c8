/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - lists what is in a model, an adapter or a tensor file, from headers alone.
 *
 * The readers of src/io validate; here their facts are copied into flat lists (tensors, facts,
 * metadata) that own their strings, so that one set of accessors serves every format.  What the
 * facts are is in inspect_facts.c. */
#include "api/inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"

/* ---- lists */

static enum mil_status grow(void **items, size_t n, size_t *cap, size_t size,
                            struct mil_error *err) {
    if (n < *cap) return MIL_OK;
    size_t more = *cap ? *cap * 2 : 32;
    void *p = mem_realloc(MEM_OTHER, *items, more, size);
    if (!p) return error_nomem(err, (uint64_t)more * size);
    *items = p;
    *cap = more;
    return MIL_OK;
}

enum mil_status facts_add(struct facts *f, const char *key, size_t key_n, const char *value,
                          size_t n, bool literal, struct mil_error *err) {
    TRY(grow((void **)&f->items, f->n, &f->cap, sizeof *f->items, err));
    char *k = mem_strndup(MEM_OTHER, key, key_n), *v = mem_strndup(MEM_OTHER, value, n);
    if (!k || !v) {
        mem_free(k);
        mem_free(v);
        return error_nomem(err, n);
    }
    f->items[f->n++] = (struct mil_fact){k, v, literal};
    return MIL_OK;
}

enum mil_status facts_text(struct facts *f, const char *key, const char *value,
                           struct mil_error *err) {
    return facts_add(f, key, strlen(key), value, strlen(value), false, err);
}

enum mil_status facts_number(struct facts *f, const char *key, struct mil_error *err,
                             const char *fmt, ...) {
    char value[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    return facts_add(f, key, strlen(key), value, strlen(value), true, err);
}

enum mil_status facts_json(struct facts *f, const char *key, const json_t *value,
                           struct mil_error *err) {
    if (json_is_string(value)) return facts_text(f, key, json_string_value(value), err);
    struct str text = {0};
    json_append(value, -1, &text);
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK) st = facts_add(f, key, strlen(key), str_c(&text), text.len, true, err);
    str_release(&text);
    return st;
}

enum mil_status facts_object(struct facts *f, const json_t *object, struct mil_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) TRY(facts_json(f, key, value, err));
    return MIL_OK;
}

static void facts_release(struct facts *f) {
    for (size_t i = 0; i < f->n; i++) {
        mem_free((char *)f->items[i].key);
        mem_free((char *)f->items[i].value);
    }
    mem_free(f->items);
}

/* The tensor's name is copied; file is borrowed from the reader. */
static enum mil_status add_tensor(struct mil_inspection *in, const char *name, size_t name_n,
                                  struct mil_tensor_info info, struct mil_error *err) {
    TRY(grow((void **)&in->tensors, in->n, &in->cap, sizeof *in->tensors, err));
    info.name = mem_strndup(MEM_OTHER, name, name_n);
    if (!info.name) return error_nomem(err, name_n);
    info.elements = 1;
    for (int k = 0; k < info.ndim; k++) info.elements *= (uint64_t)info.shape[k];
    in->tensors[in->n++] = info;
    in->elements += info.elements;
    in->bytes += info.bytes;
    return MIL_OK;
}

/* ---- formats */

static enum mil_status list_safetensors(struct mil_inspection *in, struct mil_error *err) {
    for (size_t i = 0; i < st_count(in->st); i++) {
        const struct st_tensor *t = st_at(in->st, i);
        struct mil_tensor_info info = {.dtype = dtype_name(t->dtype),
                                       .ndim = t->ndim,
                                       .bytes = t->bytes,
                                       .file = st_shard_name(in->st, (size_t)t->shard)};
        for (int k = 0; k < t->ndim && k < 8; k++) info.shape[k] = t->shape[k];
        TRY(add_tensor(in, t->name, strlen(t->name), info, err));
    }
    const json_t *metadata = st_metadata_all(in->st);
    return metadata ? facts_object(&in->metadata, metadata, err) : MIL_OK;
}

static enum mil_status list_gguf(struct mil_inspection *in, const char *path,
                                 struct mil_error *err) {
    TRY(gguf_open(path, &in->gguf, err));
    for (size_t i = 0; i < gguf_tensor_count(in->gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(in->gguf, i);
        struct mil_tensor_info info = {.dtype = dtype_name(t->dtype),
                                       .ndim = t->ndim,
                                       .bytes = t->bytes,
                                       .file = path_base(path)};
        for (int k = 0; k < t->ndim; k++) info.shape[k] = t->ne[t->ndim - 1 - k];
        TRY(add_tensor(in, t->name.data, t->name.n, info, err));
    }
    return inspect_gguf_facts(in, path, err);
}

static enum mil_status list_file(struct mil_inspection *in, const char *path,
                                 struct mil_error *err) {
    struct mapped_file m;
    TRY(file_map(path, &m, err));
    bool gguf = m.size >= 4 && memcmp(m.data, "GGUF", 4) == 0;
    file_unmap(&m);
    in->kind = MIL_INSPECT_FILE;
    in->format = gguf ? "GGUF file" : "safetensors file";
    if (gguf) return list_gguf(in, path, err);
    TRY(st_open(path, &in->st, err));
    return list_safetensors(in, err);
}

static enum mil_status list_adapter(struct mil_inspection *in, const char *path,
                                    struct mil_error *err) {
    char file[PATH_CAP];
    in->kind = MIL_INSPECT_ADAPTER;
    in->format = "adapter directory (PEFT)";
    TRY(inspect_adapter_facts(in, path, err));
    TRY(path_join(file, path, "adapter_model.safetensors", err));
    TRY(st_open(file, &in->st, err));
    return list_safetensors(in, err);
}

static enum mil_status list_model(struct mil_inspection *in, const char *path,
                                  struct mil_error *err) {
    char single[PATH_CAP], index[PATH_CAP];
    in->kind = MIL_INSPECT_MODEL;
    in->format = "Hugging Face directory";
    TRY(inspect_model_facts(in, path, err));
    TRY(path_join(single, path, "model.safetensors", err));
    TRY(path_join(index, path, "model.safetensors.index.json", err));
    if (!path_exists(single) && !path_exists(index))
        return facts_text(&in->facts, "weights", "none in this directory", err);
    TRY(st_open_checkpoint(path, &in->st, err));
    return list_safetensors(in, err);
}

static enum mil_status list_any(struct mil_inspection *in, const char *path,
                                struct mil_error *err) {
    char adapter[PATH_CAP], config[PATH_CAP];
    if (!path_exists(path)) return error_set(err, MIL_ACCESS, "%s: no such file", path);
    if (!path_is_dir(path)) return list_file(in, path, err);
    TRY(path_join(adapter, path, "adapter_config.json", err));
    TRY(path_join(config, path, "config.json", err));
    if (path_exists(adapter)) return list_adapter(in, path, err);
    if (path_exists(config)) return list_model(in, path, err);
    return error_set(err, MIL_INPUT,
                     "%s: neither config.json (a model) nor adapter_config.json (an adapter) there",
                     path);
}

enum mil_status mil_inspect(const char *path, mil_inspection **out, struct mil_error *err) {
    *out = NULL;
    struct mil_inspection *in = mem_calloc(MEM_OTHER, 1, sizeof *in);
    if (!in) return error_nomem(err, sizeof *in);
    enum mil_status st = list_any(in, path, err);
    if (st == MIL_OK)
        *out = in;
    else
        mil_inspect_free(&in);
    return st;
}

void mil_inspect_free(mil_inspection **inspection) {
    struct mil_inspection *in = *inspection;
    if (!in) return;
    for (size_t i = 0; i < in->n; i++) mem_free((char *)in->tensors[i].name);
    mem_free(in->tensors);
    facts_release(&in->facts);
    facts_release(&in->metadata);
    st_free(&in->st);
    gguf_free(&in->gguf);
    mem_free(in);
    *inspection = NULL;
}

/* ---- accessors */

enum mil_inspect_kind mil_inspect_kind(const mil_inspection *in) {
    return in->kind;
}
const char *mil_inspect_format(const mil_inspection *in) {
    return in->format;
}
size_t mil_inspect_tensors(const mil_inspection *in) {
    return in->n;
}
const struct mil_tensor_info *mil_inspect_tensor(const mil_inspection *in, size_t i) {
    return i < in->n ? &in->tensors[i] : NULL;
}
size_t mil_inspect_facts(const mil_inspection *in) {
    return in->facts.n;
}
const struct mil_fact *mil_inspect_fact(const mil_inspection *in, size_t i) {
    return i < in->facts.n ? &in->facts.items[i] : NULL;
}
size_t mil_inspect_metadata_count(const mil_inspection *in) {
    return in->metadata.n;
}
const struct mil_fact *mil_inspect_metadata(const mil_inspection *in, size_t i) {
    return i < in->metadata.n ? &in->metadata.items[i] : NULL;
}
uint64_t mil_inspect_elements(const mil_inspection *in) {
    return in->elements;
}
uint64_t mil_inspect_bytes(const mil_inspection *in) {
    return in->bytes;
}
