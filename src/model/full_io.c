/* SPDX-License-Identifier: Apache-2.0 */
/* full_io.c - all weights of a model under training, to and from safetensors. */
#include "io/file.h"
#include "io/safetensors.h"
#include "kern/dequant.h"
#include "model/full.h"

enum { PIECE = 1 << 16 }; /* elements converted at once while writing */

/* The host's copy of a master; *owned is what the caller frees (NULL where memory is shared). */
static enum mil_status fetch(const struct full *f, struct tensor t, const void **host, void **owned,
                             struct mil_error *err) {
    *owned = NULL;
    *host = t.data;
    if (backend_shares_host(f->m->backend)) return MIL_OK;
    *owned = mem_alloc(MEM_IO, full_bytes_of(t), 1);
    if (!*owned) return error_nomem(err, full_bytes_of(t));
    backend_download(f->m->backend, *owned, t.data, full_bytes_of(t));
    *host = *owned;
    return MIL_OK;
}

/* Elements [at, at + n) of a master of type real, as f32. */
static void piece_f32(enum dtype real, const void *host, int64_t at, int64_t n, float *out) {
    dequant_to_f32(real, (const char *)host + (size_t)at * dtype_size(real), n, out);
}

struct piece_buffers {
    float f32[PIECE];
    unsigned char stored[PIECE * sizeof(float)];
};

static enum mil_status write_param(const struct full *f, const struct param *p, enum dtype stored,
                                   struct st_writer *w, struct piece_buffers *buf,
                                   struct mil_error *err) {
    const void *host;
    void *owned;
    int64_t total = p->value.rows * p->value.cols;
    enum mil_status st = fetch(f, p->value, &host, &owned, err);
    for (int64_t at = 0; st == MIL_OK && at < total; at += PIECE) {
        int64_t n = total - at < PIECE ? total - at : PIECE;
        piece_f32(p->value.dtype, host, at, n, buf->f32);
        quant_from_f32(stored, buf->f32, n, buf->stored);
        st = st_writer_put(w, buf->stored, (size_t)n * dtype_size(stored), err);
    }
    mem_free(owned);
    return st;
}

static void declare(const struct full *f, enum dtype stored, struct st_decl *decls) {
    for (size_t i = 0; i < f->trainable.n; i++) {
        struct weight_slot s = weight_slot_at(&f->m->config, i);
        struct st_decl *d = &decls[i];
        *d = (struct st_decl){.name = f->trainable.params[i].name, .dtype = stored};
        if (!weight_kind_is_vector(s.kind)) d->shape[d->ndim++] = s.rows;
        d->shape[d->ndim++] = s.cols;
    }
}

enum mil_status full_save(const struct full *f, const char *dir, enum dtype stored,
                          struct mil_error *err) {
    char path[PATH_CAP];
    enum mil_status st;
    struct st_writer *w = NULL;
    size_t n = f->trainable.n;
    struct st_decl *decls = mem_calloc(MEM_IO, n, sizeof *decls);
    struct piece_buffers *buf = mem_alloc(MEM_IO, 1, sizeof *buf);
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    if (!decls || !buf || !metadata) TRY_GOTO(error_nomem(err, n * sizeof *decls + sizeof *buf));
    TRY_GOTO(path_join(path, dir, "model.safetensors", err));
    declare(f, stored, decls);
    TRY_GOTO(stream_sync(backend_stream(f->m->backend), err));
    TRY_GOTO(st_writer_new(path, metadata, decls, n, &w, err));
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(write_param(f, &f->trainable.params[i], stored, w, buf, err));
    st = st_writer_commit(&w, err);
fail:
    st_writer_free(&w);
    json_decref(metadata);
    mem_free(buf);
    mem_free(decls);
    return st;
}

static enum mil_status load_param(struct full *f, const struct param *p, const struct st_file *file,
                                  const char *path, struct mil_error *err) {
    const struct st_tensor *t = st_find(file, p->name);
    int64_t elements = 1, want = p->value.rows * p->value.cols;
    if (!t) return error_set(err, MIL_MISMATCH, "%s: tensor %s is missing", path, p->name);
    for (int i = 0; i < t->ndim; i++) elements *= t->shape[i];
    if (t->dtype != DT_F32 || elements != want ||
        t->shape[t->ndim > 0 ? t->ndim - 1 : 0] != p->value.cols)
        return error_set(err, MIL_MISMATCH,
                         "%s: tensor %s is not F32 [%lld, %lld]: it belongs to another model", path,
                         p->name, (long long)p->value.rows, (long long)p->value.cols);
    /* Through an aligned copy: the file promises no alignment, and real may be wider. */
    float *host = mem_alloc(MEM_IO, (size_t)want, sizeof *host);
    if (!host) return error_nomem(err, (size_t)want * sizeof *host);
    memcpy(host, t->data, (size_t)want * sizeof *host);
    if (p->value.dtype == DT_F64)
        for (int64_t i = 0; i < want; i++) ((double *)p->value.data)[i] = (double)host[i];
    else
        backend_upload(f->m->backend, p->value.data, host, (size_t)want * sizeof *host);
    mem_free(host);
    return MIL_OK;
}

enum mil_status full_load(struct full *f, const char *path, struct mil_error *err) {
    struct st_file *file = NULL;
    struct stream *s = backend_stream(f->m->backend);
    TRY(st_open(path, &file, err));
    enum mil_status st = MIL_OK;
    if (st_count(file) != f->trainable.n)
        st = error_set(err, MIL_MISMATCH, "%s: %zu tensors; this model has %zu", path,
                       st_count(file), f->trainable.n);
    for (size_t i = 0; st == MIL_OK && i < f->trainable.n; i++)
        st = load_param(f, &f->trainable.params[i], file, path, err);
    if (st == MIL_OK) {
        f->trainable.refresh(f, s);
        st = stream_sync(s, err);
    }
    st_free(&file);
    return st;
}
