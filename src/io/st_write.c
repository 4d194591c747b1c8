/* SPDX-License-Identifier: Apache-2.0 */
/* st_write.c - writing a safetensors file in one pass: the header from the declarations, then the
 * tensors' bytes as they come, straight to the (temporary) file.
 *
 * Tensors lie in the order of declaration; the header is padded with spaces so that the data begin
 * at a multiple of 8, as the reference implementation does.  Offsets are sums of what was
 * declared, so readers find neither hole nor overlap. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

struct st_writer {
    struct atomic_file file;
    uint64_t left; /* tensor bytes still to come */
};

static enum mil_status check_name(const char *name, struct mil_error *err) {
    size_t n = strlen(name);
    if (utf8_valid_prefix(name, n) != n)
        return error_set(err, MIL_INPUT, "tensor '%.128s': the name is not valid UTF-8", name);
    if (strcmp(name, "__metadata__") == 0)
        return error_set(err, MIL_INPUT, "'__metadata__' cannot be the name of a tensor");
    return MIL_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum mil_status check_names(const struct st_decl *decls, size_t n, struct mil_error *err) {
    const char **names = mem_alloc(MEM_IO, n, sizeof *names);
    if (!names) return error_nomem(err, n * sizeof *names);
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < n && st == MIL_OK; i++) {
        names[i] = decls[i].name;
        st = check_name(names[i], err);
    }
    if (st == MIL_OK && n) qsort(names, n, sizeof *names, by_text);
    for (size_t i = 1; i < n && st == MIL_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            st = error_set(err, MIL_INPUT, "two tensors are named '%.128s'", names[i]);
    mem_free(names);
    return st;
}

/* Bytes of a declared tensor.  A dtype without plain elements or too many dimensions are our own
 * mistakes; a product that overflows may come from a file. */
static enum mil_status decl_bytes(const struct st_decl *d, size_t *bytes, struct mil_error *err) {
    REQUIRE(d->ndim >= 0 && d->ndim <= ST_MAX_DIMS);
    size_t n = dtype_size(d->dtype);
    for (int i = 0; i < d->ndim; i++) {
        REQUIRE(d->shape[i] >= 0);
        if (!checked_mul(n, (size_t)d->shape[i], &n) || n > INT64_MAX)
            return error_set(err, MIL_INPUT, "tensor '%.128s': the shape's product overflows",
                             d->name);
    }
    *bytes = n;
    return MIL_OK;
}

static enum mil_status add_decl(const struct st_decl *d, uint64_t *at, struct str *out,
                                struct mil_error *err) {
    size_t bytes = 0;
    TRY(decl_bytes(d, &bytes, err));
    json_append_string(d->name, strlen(d->name), out);
    str_addf(out, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(d->dtype));
    for (int i = 0; i < d->ndim; i++) str_addf(out, "%s%lld", i ? "," : "", (long long)d->shape[i]);
    uint64_t end;
    if (__builtin_add_overflow(*at, bytes, &end) || end > INT64_MAX)
        return error_set(err, MIL_INPUT, "tensor '%.128s': the file would be too large", d->name);
    str_addf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at,
             (unsigned long long)end);
    *at = end;
    return MIL_OK;
}

static enum mil_status make_header(const json_t *metadata, const struct st_decl *decls, size_t n,
                                   struct str *out, uint64_t *data_bytes, struct mil_error *err) {
    bool first = true;
    *data_bytes = 0;
    str_addc(out, '{');
    if (metadata && json_object_size(metadata)) {
        str_add(out, "\"__metadata__\":");
        json_append(metadata, -1, out);
        first = false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!first) str_addc(out, ',');
        first = false;
        TRY(add_decl(&decls[i], data_bytes, out, err));
    }
    str_addc(out, '}');
    while (!out->failed && out->len % 8) str_addc(out, ' ');
    return str_status(out, err);
}

static void require_texts(const json_t *metadata) {
    const char *key;
    json_t *value, *object = (json_t *)(uintptr_t)metadata;
    json_object_foreach(object, key, value) {
        REQUIRE(json_is_string(value));
    }
}

static enum mil_status write_header(struct st_writer *w, const char *path, const struct str *header,
                                    struct mil_error *err) {
    unsigned char size[8];
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)header->len >> 8 * i);
    TRY(atomic_open(&w->file, path, err));
    TRY(atomic_write(&w->file, size, sizeof size, err));
    return atomic_write(&w->file, header->data, header->len, err);
}

enum mil_status st_writer_new(const char *path, const json_t *metadata, const struct st_decl *decls,
                              size_t n, struct st_writer **out, struct mil_error *err) {
    struct str header = {0};
    *out = NULL;
    require_texts(metadata);
    struct st_writer *w = mem_calloc(MEM_IO, 1, sizeof *w);
    if (!w) return error_nomem(err, sizeof *w);
    enum mil_status st = check_names(decls, n, err);
    if (st == MIL_OK) st = make_header(metadata, decls, n, &header, &w->left, err);
    if (st != MIL_OK)
        error_prefix(err, "%s: ", path);
    else
        st = write_header(w, path, &header, err);
    str_release(&header);
    if (st == MIL_OK)
        *out = w;
    else
        st_writer_free(&w);
    return st;
}

enum mil_status st_writer_put(struct st_writer *w, const void *bytes, size_t n,
                              struct mil_error *err) {
    REQUIRE(n <= w->left);
    TRY(atomic_write(&w->file, bytes, n, err));
    w->left -= n;
    return MIL_OK;
}

enum mil_status st_writer_commit(struct st_writer **w, struct mil_error *err) {
    REQUIRE((*w)->left == 0);
    enum mil_status st = atomic_commit(&(*w)->file, err);
    st_writer_free(w);
    return st;
}

void st_writer_free(struct st_writer **w) {
    if (!w || !*w) return;
    atomic_abort(&(*w)->file);
    mem_free(*w);
    *w = NULL;
}
