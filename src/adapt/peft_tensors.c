/* SPDX-License-Identifier: Apache-2.0 */
/* peft_tensors.c - adapter_model.safetensors as PEFT has it: module after module A, B and what its form adds (Lambda,
 * the magnitude), then what trains as a whole.  All F32. */
#include <stdio.h>
#include <string.h>

#include "adapt/files.h"
#include "core/mem.h"

/* One tensor of the file. */
struct entry {
    char key[PEFT_KEY_CAP];
    const struct delta *delta; /* NULL: a whole */
    const struct whole *whole;
    enum { ENTRY_A, ENTRY_B, ENTRY_E, ENTRY_MAGNITUDE } part;
    int64_t rows, cols;
    bool vector;
};
struct writing {
    const struct adapter *adapter;
    bool residual, scaled;
    struct adalora_layout layout; /* scaled */
    struct entry *entries;
    size_t n;
};

/* ---- which ---- */

static int64_t rank_of(const struct writing *w, const struct delta *d) {
    if (w->scaled) return adalora_rank(d);
    return w->residual ? d->r : delta_saved_rank(d);
}

static struct entry *add(struct writing *w, const struct delta *d, const char *name, int part,
                         int64_t rows, int64_t cols) {
    struct entry *e = &w->entries[w->n++];
    char full[32];
    *e = (struct entry){.delta = d, .part = part, .rows = rows, .cols = cols};
    bool weight = !w->scaled && part != ENTRY_MAGNITUDE;
    snprintf(full, sizeof full, "%s%s", name, weight ? ".weight" : "");
    peft_key(e->key, d->layer, d->module, full);
    return e;
}

static void add_delta(struct writing *w, const struct delta *d) {
    int64_t k = rank_of(w, d);
    add(w, d, "lora_A", ENTRY_A, k, d->n);
    add(w, d, "lora_B", ENTRY_B, d->m, k);
    if (w->scaled) add(w, d, "lora_E", ENTRY_E, k, 1);
    if (d->dora) add(w, d, "lora_magnitude_vector", ENTRY_MAGNITUDE, 1, d->m)->vector = true;
}

static void add_whole(struct writing *w, const struct whole *x) {
    struct entry *e = &w->entries[w->n++];
    bool bias = x->kind == WHOLE_BIAS;
    *e = (struct entry){.whole = x, .rows = x->rows, .cols = x->cols, .vector = bias};
    peft_whole_key(e->key, x, bias && adapter_adapts(w->adapter, x->layer, x->module));
}

static enum mil_status list_entries(struct writing *w, struct mil_error *err) {
    const struct adapter *a = w->adapter;
    size_t most = 4 * a->n + a->n_wholes;
    w->entries = mem_calloc(MEM_IO, most, sizeof *w->entries);
    if (!w->entries) return error_nomem(err, most * sizeof *w->entries);
    if (w->scaled) adalora_layout(a, &w->layout);
    for (size_t i = 0; i < a->n; i++) add_delta(w, &a->deltas[i]);
    for (size_t i = 0; i < a->n_wholes; i++) add_whole(w, &a->wholes[i]);
    return MIL_OK;
}

/* ---- values ---- */

/* A (rank-r) = A0 + dA and B = B0 + dB: what the residual layout trains. */
static void trained_a(const struct delta *d, float *a) {
    for (int64_t i = 0; i < d->r * d->n; i++) a[i] = d->a0[i] + d->da[i];
}

static void trained_b(const struct delta *d, float *b) {
    for (int64_t i = 0; i < d->m * d->r; i++) b[i] = (d->b0 ? d->b0[i] : 0) + d->db[i];
}

/* Q, P or Lambda of the kept triplets. */
static void kept(const struct writing *w, const struct entry *e, float *out) {
    const struct delta *d = e->delta;
    int64_t to = 0;
    for (int64_t t = 0; t < d->r; t++) {
        if (!adalora_kept(d, t)) continue;
        if (e->part == ENTRY_E) out[to] = (float)(adalora_fold(&w->layout, d) * (double)d->e[t]);
        for (int64_t j = 0; e->part == ENTRY_A && j < d->n; j++)
            out[to * d->n + j] = d->a0[t * d->n + j] + d->da[t * d->n + j];
        for (int64_t i = 0; e->part == ENTRY_B && i < d->m; i++)
            out[i * e->cols + to] = d->db[i * d->r + t];
        to++;
    }
}

static void fill(const struct writing *w, const struct entry *e, float *out) {
    const struct delta *d = e->delta;
    if (e->part == ENTRY_MAGNITUDE)
        memcpy(out, d->magnitude, (size_t)d->m * sizeof *out);
    else if (w->scaled)
        kept(w, e, out);
    else if (e->part == ENTRY_A)
        (w->residual ? trained_a : delta_saved_a)(d, out);
    else
        (w->residual ? trained_b : delta_saved_b)(d, out);
}

static enum mil_status put(const struct writing *w, struct st_writer *out, float *buffer,
                           struct mil_error *err) {
    for (size_t i = 0; i < w->n; i++) {
        const struct entry *e = &w->entries[i];
        const float *values = e->whole ? e->whole->value : buffer;
        if (e->delta) fill(w, e, buffer);
        TRY(st_writer_put(out, values, (size_t)(e->rows * e->cols) * sizeof *values, err));
    }
    return MIL_OK;
}

static enum mil_status write_all(const struct writing *w, const char *path, struct st_decl *decls,
                                 float *buffer, struct mil_error *err) {
    struct st_writer *out = NULL;
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    if (!metadata) return error_nomem(err, 0);
    for (size_t i = 0; i < w->n; i++) {
        const struct entry *e = &w->entries[i];
        decls[i] = (struct st_decl){e->key, DT_F32, 2, {e->rows, e->cols}};
        if (e->vector) decls[i] = (struct st_decl){e->key, DT_F32, 1, {e->cols}};
    }
    enum mil_status st = st_writer_new(path, metadata, decls, w->n, &out, err);
    if (st == MIL_OK) st = put(w, out, buffer, err);
    if (st == MIL_OK) st = st_writer_commit(&out, err);
    st_writer_free(&out);
    json_decref(metadata);
    return st;
}

enum mil_status peft_write_tensors(const struct adapter *a, const char *path, bool residual,
                                   struct mil_error *err) {
    struct writing w = {.adapter = a, .residual = residual, .scaled = adapter_is_scaled(a)};
    struct st_decl *decls = NULL;
    float *buffer = NULL;
    int64_t most = 0;
    enum mil_status st;
    TRY_GOTO(list_entries(&w, err));
    for (size_t i = 0; i < w.n; i++)
        if (w.entries[i].delta && w.entries[i].rows * w.entries[i].cols > most)
            most = w.entries[i].rows * w.entries[i].cols;
    decls = mem_calloc(MEM_IO, w.n, sizeof *decls);
    buffer = mem_alloc(MEM_IO, (size_t)most, sizeof *buffer);
    st = decls && buffer ? write_all(&w, path, decls, buffer, err)
                         : error_nomem(err, (uint64_t)most * sizeof *buffer);
fail:
    mem_free(buffer);
    mem_free(decls);
    mem_free(w.entries);
    return st;
}
