/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_write.c - a version-3 file: pairs and tensor infos are gathered as they come (the counts
 * stand in front of them), everything is written at commit.  Data begin at, and tensors are padded
 * to, the format's default alignment of 32 bytes, in the order in which they were put: what
 * llama.cpp demands. */
#include <string.h>

#include "core/mem.h"
#include "io/gguf_internal.h"

struct pending {
    const void *data;
    size_t bytes;
};

struct gguf_writer {
    char path[PATH_CAP];
    struct str kvs, infos;
    uint64_t n_kvs, data_bytes;
    struct pending *tensors;
    size_t n_tensors, cap;
    enum mil_status status; /* of the first put that failed */
};

static void put_le(struct str *s, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) str_addc(s, (char)(v >> 8 * i & 0xff));
}

static void put_text(struct str *s, const char *text) {
    size_t n = strlen(text);
    put_le(s, n, 8);
    str_addn(s, text, n);
}

enum mil_status gguf_writer_new(const char *path, struct gguf_writer **out, struct mil_error *err) {
    *out = NULL;
    struct gguf_writer *w = mem_calloc(MEM_IO, 1, sizeof *w);
    if (!w) return error_nomem(err, sizeof *w);
    enum mil_status st = path_join(w->path, "", path, err);
    if (st == MIL_OK)
        *out = w;
    else
        mem_free(w);
    return st;
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type) {
    REQUIRE(*key && strlen(key) <= GGUF_MAX_KEY);
    put_text(&w->kvs, key);
    put_le(&w->kvs, type, 4);
    w->n_kvs++;
}

void gguf_put_str(struct gguf_writer *w, const char *key, const char *value) {
    put_key(w, key, GGUF_STRING);
    put_text(&w->kvs, value);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value) {
    put_key(w, key, GGUF_U32);
    put_le(&w->kvs, value, 4);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(w, key, GGUF_F32);
    put_le(&w->kvs, bits, 4);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool value) {
    put_key(w, key, GGUF_BOOL);
    put_le(&w->kvs, value, 1);
}

static bool grow(struct gguf_writer *w) {
    if (w->n_tensors < w->cap) return true;
    size_t cap = w->cap ? 2 * w->cap : 64;
    struct pending *grown = mem_realloc(MEM_IO, w->tensors, cap, sizeof *grown);
    if (!grown) return false;
    w->tensors = grown;
    w->cap = cap;
    return true;
}

void gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype dtype, int ndim,
                     const int64_t *ne, const void *data) {
    REQUIRE(dtype == DT_F32 || dtype == DT_F16 || dtype == DT_BF16);
    REQUIRE(*name && ndim >= 1 && ndim <= 4);
    if (!grow(w)) {
        w->status = MIL_NOMEM;
        return;
    }
    size_t bytes = dtype_size(dtype);
    put_text(&w->infos, name);
    put_le(&w->infos, (uint64_t)ndim, 4);
    for (int i = 0; i < ndim; i++) {
        REQUIRE(ne[i] > 0 && checked_mul(bytes, (size_t)ne[i], &bytes));
        put_le(&w->infos, (uint64_t)ne[i], 8);
    }
    put_le(&w->infos, gguf_dtype_number(dtype), 4);
    put_le(&w->infos, w->data_bytes, 8);
    w->data_bytes += align_up(bytes, GGUF_DEFAULT_ALIGNMENT);
    w->tensors[w->n_tensors++] = (struct pending){data, bytes};
}

static enum mil_status write_padding(struct atomic_file *a, struct mil_error *err) {
    static const char zeros[GGUF_DEFAULT_ALIGNMENT];
    size_t over = (size_t)(a->written % GGUF_DEFAULT_ALIGNMENT);
    return over ? atomic_write(a, zeros, sizeof zeros - over, err) : MIL_OK;
}

static enum mil_status write_all(const struct gguf_writer *w, struct atomic_file *a,
                                 struct mil_error *err) {
    struct str head = {0};
    str_add(&head, "GGUF");
    put_le(&head, 3, 4);
    put_le(&head, w->n_tensors, 8);
    put_le(&head, w->n_kvs, 8);
    enum mil_status st = str_status(&head, err);
    if (st == MIL_OK) st = atomic_write(a, head.data, head.len, err);
    str_release(&head);
    TRY(st);
    TRY(atomic_write(a, str_c(&w->kvs), w->kvs.len, err));
    TRY(atomic_write(a, str_c(&w->infos), w->infos.len, err));
    TRY(write_padding(a, err));
    for (size_t i = 0; i < w->n_tensors; i++) {
        TRY(atomic_write(a, w->tensors[i].data, w->tensors[i].bytes, err));
        TRY(write_padding(a, err));
    }
    return atomic_commit(a, err);
}

static void writer_free(struct gguf_writer **w) {
    str_release(&(*w)->kvs);
    str_release(&(*w)->infos);
    mem_free((*w)->tensors);
    mem_free(*w);
    *w = NULL;
}

enum mil_status gguf_writer_commit(struct gguf_writer **w, struct mil_error *err) {
    struct atomic_file a = {0};
    enum mil_status st = (*w)->status ? error_nomem(err, 0) : MIL_OK;
    if (st == MIL_OK) st = str_status(&(*w)->kvs, err);
    if (st == MIL_OK) st = str_status(&(*w)->infos, err);
    if (st == MIL_OK) st = atomic_open(&a, (*w)->path, err);
    if (st == MIL_OK) st = write_all(*w, &a, err);
    atomic_abort(&a);
    writer_free(w);
    return st;
}
