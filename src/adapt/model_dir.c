/* SPDX-License-Identifier: Apache-2.0 */
/* model_dir.c - a model written as a Hugging Face directory with some weights edited.
 *
 * Tensors are streamed one by one: the largest weight in f32 is all that is held.  A weight that is
 * neither edited nor converted is copied byte for byte; tensors that the decoder does not use (old
 * rotary tables) always are.  From a GGUF file the weights get Hugging Face's names and order in
 * one file, and the tokenizer in its metadata becomes tokenizer.json.  A head that is untied comes after the last
 * tensor of the last file. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "kern/dequant.h"

/* One tensor of the output. */
struct item {
    struct st_decl decl;
    const struct st_tensor *raw;    /* as it lies in the input, NULL: from GGUF */
    const struct weight_view *view; /* NULL: the decoder does not use it, copied */
    bool edited;
};
struct writing {
    const struct checkpoint *base;
    const struct weight_edit *edit;
    struct item *items; /* of the current shard */
    size_t n;
    struct weight_view head; /* untied: the embeddings under the head's name */
    float *buffer;           /* the largest module, and CHUNK elements at least */
    void *rounded;           /* CHUNK elements as they are stored */
    uint64_t total_bytes;
    json_t *weight_map;
};

/* Elements converted at a time. */
enum { CHUNK = 1 << 20 };

/* ---- what is written ---- */

static enum dtype stored_type(enum dtype wanted, enum dtype have) {
    if (wanted != DTYPES) return wanted;
    return dtype_block_elems(have) > 1 ? DT_F16 : have;
}

static const struct weight_view *find_view(const struct checkpoint *c, const char *name) {
    for (size_t i = 0; i < checkpoint_count(c); i++)
        if (strcmp(checkpoint_at(c, i)->name, name) == 0) return checkpoint_at(c, i);
    return NULL;
}

static bool is_edited(const struct writing *w, const struct weight_view *v) {
    return v && w->edit->changes(w->edit->ctx, v);
}

static void add_raw(struct writing *w, const struct st_tensor *t, enum dtype dtype) {
    struct item *i = &w->items[w->n++];
    *i = (struct item){.raw = t, .view = find_view(w->base, t->name)};
    i->edited = is_edited(w, i->view);
    i->decl = (struct st_decl){.name = t->name,
                               .dtype = i->view ? stored_type(dtype, t->dtype) : t->dtype,
                               .ndim = t->ndim};
    memcpy(i->decl.shape, t->shape, sizeof i->decl.shape);
}

static void add_view(struct writing *w, const struct weight_view *v, enum dtype dtype) {
    bool vector = str_ends(v->name, "norm.weight") || str_ends(v->name, ".bias");
    struct item *i = &w->items[w->n++];
    *i = (struct item){.view = v, .edited = is_edited(w, v)};
    i->decl = (struct st_decl){.name = v->name,
                               .dtype = stored_type(dtype, v->dtype),
                               .ndim = vector ? 1 : 2,
                               .shape = {vector ? v->cols : v->rows, vector ? 0 : v->cols}};
}

/* The head's own weight, where it had none. */
static void add_head(struct writing *w, enum dtype dtype) {
    if (!w->edit->untie) return;
    w->head = w->base->embed;
    snprintf(w->head.name, sizeof w->head.name, "lm_head.weight");
    add_view(w, &w->head, dtype);
}

/* ---- one tensor ---- */

/* A value that rounds to infinity makes a model that nobody can load. */
static enum mil_status check_range(const struct item *i, const float *x, int64_t n,
                                   struct mil_error *err) {
    bool half = i->decl.dtype == DT_F16;
    float limit = half                       ? 65520.0f /* rounds to 65504, the largest, or less */
                  : i->decl.dtype == DT_BF16 ? 0x1.FFp127f
                                             : INFINITY;
    for (int64_t j = 0; j < n; j++)
        if (!(fabsf(x[j]) < limit))
            return error_set(err, MIL_NUMERIC, "%s: %g does not fit %s; %s", i->decl.name,
                             (double)x[j], dtype_name(i->decl.dtype),
                             half ? "choose bf16 or f32" : "what is added to it is too large");
    return MIL_OK;
}

/* Round n values and hand them to the writer, in chunks. */
static enum mil_status put_rounded(struct writing *w, struct st_writer *out, const struct item *i,
                                   const float *x, int64_t n, struct mil_error *err) {
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t some = n - at < CHUNK ? n - at : CHUNK;
        TRY(check_range(i, x + at, some, err));
        quant_from_f32(i->decl.dtype, x + at, some, w->rounded);
        TRY(st_writer_put(out, w->rounded, (size_t)some * dtype_size(i->decl.dtype), err));
    }
    return MIL_OK;
}

/* Rows of any weight but a module's that is edited, in chunks. */
static enum mil_status put_rows(struct writing *w, struct st_writer *out, const struct item *i,
                                struct mil_error *err) {
    const struct weight_view *v = i->view;
    const struct weight_edit *e = w->edit;
    int64_t rows = CHUNK / v->cols > 0 ? CHUNK / v->cols : 1;
    for (int64_t at = 0; at < v->rows; at += rows) {
        int64_t some = v->rows - at < rows ? v->rows - at : rows;
        for (int64_t r = 0; r < some; r++) weight_row_f32(v, at + r, w->buffer + r * v->cols);
        if (i->edited) TRY(e->apply(e->ctx, v, at, some, w->buffer, i->decl.dtype, err));
        TRY(put_rounded(w, out, i, w->buffer, some * v->cols, err));
    }
    return MIL_OK;
}

static bool is_module(const struct checkpoint *c, const struct weight_view *v) {
    for (int64_t l = 0; l < c->config.layers; l++)
        for (int m = 0; m < MODULES; m++)
            if (&c->layers[l].weight[m] == v) return true;
    return false;
}

static enum mil_status put_item(struct writing *w, struct st_writer *out, const struct item *i,
                                struct mil_error *err) {
    const struct weight_view *v = i->view;
    if (i->raw && !i->edited && i->decl.dtype == i->raw->dtype)
        return st_writer_put(out, i->raw->data, i->raw->bytes, err);
    if (!i->edited || !is_module(w->base, v)) return put_rows(w, out, i, err);
    weight_to_f32(v, w->buffer);
    TRY(w->edit->apply(w->edit->ctx, v, 0, v->rows, w->buffer, i->decl.dtype, err));
    return put_rounded(w, out, i, w->buffer, v->rows * v->cols, err);
}

/* ---- one file ---- */

/* Write the items as file `name` in dir. */
static enum mil_status write_shard(struct writing *w, const char *dir, const char *name,
                                   struct mil_error *err) {
    char path[PATH_CAP];
    struct st_writer *out = NULL;
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    struct st_decl *decls = mem_alloc(MEM_IO, w->n, sizeof *decls);
    enum mil_status st = MIL_OK;
    if (!metadata || !decls) {
        st = error_nomem(err, w->n * sizeof *decls);
        goto fail;
    }
    for (size_t i = 0; i < w->n; i++) decls[i] = w->items[i].decl;
    TRY_GOTO(path_join(path, dir, name, err));
    TRY_GOTO(st_writer_new(path, metadata, decls, w->n, &out, err));
    for (size_t i = 0; i < w->n; i++) {
        const struct st_decl *d = &w->items[i].decl;
        uint64_t elements = 1;
        size_t bytes = 0;
        TRY_GOTO(put_item(w, out, &w->items[i], err));
        for (int k = 0; k < d->ndim; k++) elements *= (uint64_t)d->shape[k];
        if (dtype_bytes(d->dtype, elements, &bytes)) w->total_bytes += bytes;
        json_object_set_new(w->weight_map, d->name, json_string(name));
    }
    st = st_writer_commit(&out, err);
fail:
    st_writer_free(&out);
    mem_free(decls);
    json_decref(metadata);
    return st;
}

static enum mil_status write_index(const struct writing *w, const char *dir,
                                   struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "model.safetensors.index.json", err));
    json_t *o = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)w->total_bytes,
                          "weight_map", w->weight_map);
    if (!o) return error_nomem(err, 0);
    enum mil_status st = json_write_file(path, o, err);
    json_decref(o);
    return st;
}

/* A tied model may carry a copy of its embeddings as lm_head.weight. */
static bool is_old_head(const struct writing *w, const struct st_tensor *t) {
    return w->edit->untie && strcmp(t->name, "lm_head.weight") == 0;
}

static enum mil_status write_weights(struct writing *w, enum dtype dtype, const char *dir,
                                     struct mil_error *err) {
    const struct st_file *f = w->base->safetensors;
    if (!f) {
        for (size_t i = 0; i < checkpoint_count(w->base); i++)
            add_view(w, checkpoint_at(w->base, i), dtype);
        add_head(w, dtype);
        return write_shard(w, dir, "model.safetensors", err);
    }
    for (size_t shard = 0; shard < st_shards(f); shard++) {
        w->n = 0;
        for (size_t i = 0; i < st_count(f); i++)
            if ((size_t)st_at(f, i)->shard == shard && !is_old_head(w, st_at(f, i)))
                add_raw(w, st_at(f, i), dtype);
        if (shard + 1 == st_shards(f)) add_head(w, dtype);
        TRY(write_shard(w, dir, st_shard_name(f, shard), err));
    }
    char index[PATH_CAP];
    TRY(path_join(index, w->base->path, "model.safetensors.index.json", err));
    return path_exists(index) ? write_index(w, dir, err) : MIL_OK;
}

/* ---- the other files ---- */

/* config.json of a model whose head is its own now. */
static enum mil_status untie_config(const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    json_t *root = NULL;
    TRY(path_join(path, dir, "config.json", err));
    TRY(json_read_file(path, &root, err));
    enum mil_status st = json_object_set_new(root, "tie_word_embeddings", json_false()) == 0
                             ? json_write_file(path, root, err)
                             : error_nomem(err, 0);
    json_decref(root);
    return st;
}

/* ---- entry point ---- */

static enum mil_status take_buffers(struct writing *w, struct mil_error *err) {
    const struct st_file *f = w->base->safetensors;
    const struct model_config *c = &w->base->config;
    size_t most = CHUNK, items = f ? st_count(f) : checkpoint_count(w->base);
    for (size_t i = 0; i < checkpoint_count(w->base); i++) {
        const struct weight_view *v = checkpoint_at(w->base, i);
        if ((size_t)v->cols > most) most = (size_t)v->cols;
    }
    for (int m = 0; m < MODULES; m++) {
        size_t n = (size_t)(module_rows(c, (enum module)m) * module_cols(c, (enum module)m));
        if (n > most) most = n;
    }
    w->items = mem_alloc(MEM_IO, items + 1, sizeof *w->items);
    w->buffer = mem_alloc(MEM_IO, most, sizeof *w->buffer);
    w->rounded = mem_alloc(MEM_IO, CHUNK, sizeof(double));
    w->weight_map = json_object();
    if (w->items && w->buffer && w->rounded && w->weight_map) return MIL_OK;
    return error_nomem(err, most * sizeof *w->buffer);
}

enum mil_status model_dir_write(const struct checkpoint *base, const struct weight_edit *edit,
                                enum dtype dtype, const char *dir, struct mil_error *err) {
    struct writing w = {.base = base, .edit = edit};
    enum mil_status st;
    REQUIRE(base->layers);
    TRY_GOTO(take_buffers(&w, err));
    enum dtype stored = stored_type(dtype, checkpoint_at(base, 0)->dtype);
    TRY_GOTO(checkpoint_write_config(base, base->config_json ? dtype : stored, false, dir, err));
    if (edit->untie) TRY_GOTO(untie_config(dir, err));
    TRY_GOTO(checkpoint_carry_files(base, dir, err));
    st = write_weights(&w, dtype, dir, err);
fail:
    json_decref(w.weight_map);
    mem_free(w.rounded);
    mem_free(w.buffer);
    mem_free(w.items);
    return st;
}
