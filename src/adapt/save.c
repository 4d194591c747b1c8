/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - an adapter directory: PEFT's two files, milora.json, a short model card; and the raw
 * state that bit-exact resume needs.  docs/formats/adapter.md has the format. */
#include <stdio.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"

/* ---- milora.json ---- */

/* Rows [begin, end) of lora_A, or columns of lora_B, hold `what`. */
static json_t *part(const char *what, int64_t begin, int64_t end) {
    return json_pack("{s:s, s:[I, I]}", "holds", what, "range", (json_int_t)begin, (json_int_t)end);
}

static json_t *layout(const struct adapter *a) {
    int64_t r = a->options.r;
    if (a->method->b0_is_zero)
        return json_pack("{s:[o], s:[o]}", "lora_A_rows", part("A", 0, r), "lora_B_columns",
                         part("dB", 0, r));
    return json_pack("{s:[o, o], s:[o, o]}", "lora_A_rows", part("A", 0, r), part("dA", r, 2 * r),
                     "lora_B_columns", part("dB", 0, r), part("B0", r, 2 * r));
}

static json_t *side_file(const struct adapter *a) {
    const struct adapter_options *o = &a->options;
    json_t *targets = json_array();
    for (size_t i = 0; i < o->n_targets; i++)
        json_array_append_new(targets, json_string(o->targets[i]));
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:I, s:f, s:f, s:I, s:o, s:b, s:I, s:{s:s, s:s, s:I}, s:o}", "format",
        "milora-adapter", "version", 1, "program", "milora " MILORA_VERSION, "method",
        a->method->name, "r", (json_int_t)o->r, "lora_alpha", o->alpha, "lora_dropout", o->dropout,
        "seed", (json_int_t)o->seed, "target_modules", targets, "target_modules_regex",
        (int)o->targets_regex, "modules", (json_int_t)a->n, "base", "name_or_path", a->base_path,
        "fingerprint", a->base_fingerprint, "layers", (json_int_t)a->layers, "layout", layout(a));
}

static enum mil_status write_side_file(const struct adapter *a, const char *dir,
                                       struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "milora.json", err));
    json_t *o = side_file(a);
    if (!o)
        return error_set(err, MIL_USAGE,
                         "%s: the base's path or a target is not UTF-8, or out of memory", path);
    enum mil_status st = json_write_file(path, o, err);
    json_decref(o);
    return st;
}

/* ---- README.md ---- */

enum mil_status card_write(const struct adapter *a, const char *dir, bool side_file,
                           struct mil_error *err) {
    const char *method = a->method ? a->method->name : "lora";
    char path[PATH_CAP];
    struct str s = {0};
    TRY(path_join(path, dir, "README.md", err));
    str_addf(&s, "---\nlibrary_name: peft\ntags:\n- %s\n- lora\n---\n\n", method);
    str_addf(&s, "# A low-rank adapter (%s)\n\n", method);
    str_addf(&s,
             "Base model: `%s`. %zu modules, %lld trained parameters, r = %lld, alpha = %g.\n\n",
             *a->base_path ? a->base_path : "not recorded", a->n, (long long)adapter_elements(a),
             (long long)a->options.r, a->options.alpha);
    if (a->method && !a->method->b0_is_zero)
        str_addf(&s,
                 "Use it on the untouched base model, as any PEFT LoRA. Its rank on disk is %lld,\n"
                 "twice the trained rank: `A' = [A ; dA]`, `B' = [dB , B0]` express the change\n"
                 "`B A - B0 A0` of the trained factors exactly.%s\n",
                 (long long)(2 * a->options.r),
                 side_file ? " `milora.json` says which rows and columns are which." : "");
    enum mil_status st = str_status(&s, err);
    if (st == MIL_OK) st = file_write(path, s.data, s.len, err);
    str_release(&s);
    return st;
}

enum mil_status adapter_save(const struct adapter *a, const char *dir, struct mil_error *err) {
    TRY(peft_write(a, dir, false, a->base_path, err));
    if (a->method) TRY(write_side_file(a, dir, err));
    return card_write(a, dir, a->method != NULL, err);
}

/* ---- raw state ---- */

enum { STATE_PARTS = 4 };
#define STATE_KEY_CAP (MODULE_NAME_CAP + 8)

/* Part i of d with its key and shape; data NULL: d has no such part. */
static struct st_decl state_part(const struct delta *d, int i, char key[STATE_KEY_CAP],
                                 float **data) {
    static const char *const names[STATE_PARTS] = {"a0", "b0", "da", "db"};
    float *const arrays[STATE_PARTS] = {d->a0, d->b0, d->da, d->db};
    char name[MODULE_NAME_CAP];
    module_name(name, d->layer, d->module);
    snprintf(key, STATE_KEY_CAP, "%s.%s", name, names[i]);
    *data = arrays[i];
    bool is_a = i % 2 == 0;
    return (struct st_decl){key, DT_F32, 2, {is_a ? d->r : d->m, is_a ? d->n : d->r}};
}

enum mil_status adapter_state_save(const struct adapter *a, const char *path,
                                   struct mil_error *err) {
    struct st_decl *decls = mem_calloc(MEM_IO, a->n * STATE_PARTS, sizeof *decls);
    char(*keys)[STATE_KEY_CAP] = mem_alloc(MEM_IO, a->n * STATE_PARTS, sizeof *keys);
    json_t *metadata = json_pack("{s:s}", "format", "milora-adapter-state-1");
    struct st_writer *w = NULL;
    float *data;
    size_t n = 0;
    enum mil_status st = MIL_OK;
    if (!decls || !keys || !metadata) {
        st = error_nomem(err, a->n * STATE_PARTS * (sizeof *decls + sizeof *keys));
        goto fail;
    }
    for (size_t i = 0; i < a->n * STATE_PARTS; i++) {
        decls[n] = state_part(&a->deltas[i / STATE_PARTS], (int)(i % STATE_PARTS), keys[n], &data);
        n += data != NULL;
    }
    TRY_GOTO(st_writer_new(path, metadata, decls, n, &w, err));
    for (size_t i = 0; i < a->n * STATE_PARTS; i++) {
        char key[STATE_KEY_CAP];
        struct st_decl d =
            state_part(&a->deltas[i / STATE_PARTS], (int)(i % STATE_PARTS), key, &data);
        if (data)
            TRY_GOTO(st_writer_put(w, data, (size_t)(d.shape[0] * d.shape[1]) * sizeof *data, err));
    }
    st = st_writer_commit(&w, err);
fail:
    st_writer_free(&w);
    json_decref(metadata);
    mem_free(keys);
    mem_free(decls);
    return st;
}

/* Check one part against the file, copying it if `copy`. */
static enum mil_status load_part(const struct st_file *f, const struct delta *d, int i, bool copy,
                                 size_t *found, struct mil_error *err) {
    char key[STATE_KEY_CAP];
    float *data;
    struct st_decl want = state_part(d, i, key, &data);
    if (!data) return MIL_OK;
    const struct st_tensor *t = st_find(f, key);
    if (!t) return error_set(err, MIL_MISMATCH, "tensor '%s' is missing", key);
    if (t->dtype != DT_F32 || t->ndim != 2 || t->shape[0] != want.shape[0] ||
        t->shape[1] != want.shape[1])
        return error_set(err, MIL_MISMATCH, "tensor '%s' is not F32 [%lld, %lld]", key,
                         (long long)want.shape[0], (long long)want.shape[1]);
    if (copy) memcpy(data, t->data, t->bytes);
    *found += 1;
    return MIL_OK;
}

enum mil_status adapter_state_load(struct adapter *a, const char *path, struct mil_error *err) {
    struct st_file *f;
    size_t found = 0, ignored = 0;
    TRY(st_open(path, &f, err));
    const char *format = st_metadata(f, "format");
    enum mil_status st = MIL_OK;
    if (!format || strcmp(format, "milora-adapter-state-1") != 0)
        st = error_set(err, MIL_INPUT, "not an adapter state (__metadata__.format)");
    for (size_t i = 0; i < a->n * STATE_PARTS && st == MIL_OK; i++)
        st = load_part(f, &a->deltas[i / STATE_PARTS], (int)(i % STATE_PARTS), false, &found, err);
    if (st == MIL_OK && found != st_count(f))
        st = error_set(err, MIL_MISMATCH, "%zu tensors, the adapter has %zu: it has other modules",
                       st_count(f), found);
    for (size_t i = 0; i < a->n * STATE_PARTS && st == MIL_OK; i++)
        st = load_part(f, &a->deltas[i / STATE_PARTS], (int)(i % STATE_PARTS), true, &ignored, err);
    if (st != MIL_OK) error_prefix(err, "%s: ", path);
    st_free(&f);
    return st;
}
