/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c - reading one safetensors file: every fact of the header is checked here, once.
 *
 *     0            8                    8 + n
 *     | n, u64 LE  | JSON header, n bytes | tensor bytes, without hole or overlap, to the end |
 *
 * The rules are those of the format's reference implementation: n at most 100 MB, the header an
 * object that begins with '{', [begin, end) of the tensors sorted by offset tiling the data part
 * exactly, end - begin equal to the product of the shape and the element size.  Repeated names are
 * refused here although a hash map would keep the last one.  Several files: st_checkpoint.c. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/json.h"
#include "io/st_internal.h"

#define MAX_HEADER 100000000u

static uint64_t read_u64(const unsigned char *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

/* Only the exact spellings of the format, and only plain types. */
static bool dtype_of(const char *name, enum dtype *out) {
    for (int t = 0; t < DTYPES; t++)
        if (dtype_block_elems((enum dtype)t) == 1 && strcmp(dtype_name((enum dtype)t), name) == 0) {
            *out = (enum dtype)t;
            return true;
        }
    return false;
}

static enum mil_status read_dtype(const json_t *info, struct st_tensor *t, struct mil_error *err) {
    const char *name = NULL;
    char where[160];
    snprintf(where, sizeof where, "tensor '%.128s'", t->name);
    TRY(json_member_str(info, where, "dtype", true, &name, err));
    if (!dtype_of(name, &t->dtype))
        return error_set(err, MIL_UNSUPPORTED,
                         "tensor '%.128s': dtype '%.32s' is not supported (F64, F32, F16, BF16, "
                         "integers and BOOL are)",
                         t->name, name);
    return MIL_OK;
}

static enum mil_status read_shape(const json_t *info, struct st_tensor *t, struct mil_error *err) {
    const json_t *shape = json_object_get(info, "shape");
    if (!json_is_array(shape))
        return error_set(err, MIL_INPUT, "tensor '%.128s': 'shape' must be a list", t->name);
    size_t n = json_array_size(shape);
    if (n > ST_MAX_DIMS)
        return error_set(err, MIL_UNSUPPORTED, "tensor '%.128s': %zu dimensions, limit is %d",
                         t->name, n, ST_MAX_DIMS);
    t->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return error_set(err, MIL_INPUT,
                             "tensor '%.128s': 'shape' must hold non-negative integers", t->name);
        t->shape[i] = json_integer_value(d);
    }
    return MIL_OK;
}

static enum mil_status shape_bytes(const struct st_tensor *t, size_t *bytes,
                                   struct mil_error *err) {
    size_t n = dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++)
        if (!checked_mul(n, (size_t)t->shape[i], &n))
            return error_set(err, MIL_INPUT, "tensor '%.128s': the shape's product overflows",
                             t->name);
    *bytes = n;
    return MIL_OK;
}

static enum mil_status read_offsets(const json_t *info, struct st_tensor *t, size_t begin_of_data,
                                    const struct mapped_file *file, struct mil_error *err) {
    const json_t *pair = json_object_get(info, "data_offsets"), *b = json_array_get(pair, 0),
                 *e = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return error_set(err, MIL_INPUT, "tensor '%.128s': 'data_offsets' must be two integers",
                         t->name);
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    size_t size = file->size - begin_of_data, want = 0;
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return error_set_at(err, MIL_INPUT, (int64_t)begin_of_data,
                            "tensor '%.128s': data_offsets [%lld, %lld] leave the %zu bytes of "
                            "data in the file (cut off?)",
                            t->name, (long long)begin, (long long)end, size);
    TRY(shape_bytes(t, &want, err));
    if ((uint64_t)(end - begin) != want)
        return error_set(err, MIL_INPUT,
                         "tensor '%.128s': data_offsets span %lld bytes, but shape and dtype %s "
                         "need %zu",
                         t->name, (long long)(end - begin), dtype_name(t->dtype), want);
    t->bytes = want;
    t->data = file->data + begin_of_data + begin;
    return MIL_OK;
}

static enum mil_status read_tensor(const char *name, const json_t *info, size_t begin_of_data,
                                   const struct mapped_file *file, struct st_tensor *t,
                                   struct mil_error *err) {
    t->name = name;
    if (!json_is_object(info))
        return error_set(err, MIL_INPUT, "tensor '%.128s': its entry must be an object", name);
    TRY(read_dtype(info, t, err));
    TRY(read_shape(info, t, err));
    return read_offsets(info, t, begin_of_data, file, err);
}

static int by_place(const void *a, const void *b) {
    const struct st_tensor *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty tensors first */
}

/* Sorted by offset, each tensor begins where the one before it ends, and the last ends the file. */
static enum mil_status check_tiling(struct st_tensor *t, size_t n, size_t begin_of_data,
                                    const struct mapped_file *file, struct mil_error *err) {
    if (n) qsort(t, n, sizeof *t, by_place);
    const unsigned char *base = file->data, *next = base + begin_of_data;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *p = t[i].data;
        if (p != next)
            return error_set_at(err, MIL_INPUT, next - base,
                                "tensor '%.128s': %s at byte %lld of the file", t[i].name,
                                p < next ? "overlaps another" : "leaves a hole before it",
                                (long long)(p < next ? p - base : next - base));
        next = p + t[i].bytes;
    }
    if (next != base + file->size)
        return error_set_at(err, MIL_INPUT, next - base,
                            "%lld bytes after the last tensor belong to none",
                            (long long)(base + file->size - next));
    return MIL_OK;
}

/* __metadata__: an object of strings, or absent. */
static enum mil_status check_metadata(json_t *header, struct mil_error *err) {
    json_t *meta = json_object_get(header, "__metadata__"), *value;
    const char *key;
    if (!meta) return MIL_OK;
    if (!json_is_object(meta))
        return error_set(err, MIL_INPUT, "__metadata__ must be an object of texts");
    json_object_foreach(meta, key, value) {
        if (!json_is_string(value))
            return error_set(err, MIL_INPUT, "__metadata__: '%.128s' must be a text", key);
    }
    return MIL_OK;
}

static enum mil_status parse_header(const struct mapped_file *file, json_t **header,
                                    size_t *begin_of_data, struct mil_error *err) {
    if (file->size < 8)
        return error_set_at(err, MIL_INPUT, 0,
                            "%zu bytes are too short for a safetensors file (cut off?)",
                            file->size);
    uint64_t n = read_u64(file->data);
    if (n > MAX_HEADER)
        return error_set_at(err, MIL_INPUT, 0,
                            "header size %llu is over the limit of %u bytes (not a safetensors "
                            "file?)",
                            (unsigned long long)n, MAX_HEADER);
    if (n > file->size - 8)
        return error_set_at(err, MIL_INPUT, 0,
                            "header size %llu, but only %zu bytes follow (cut off?)",
                            (unsigned long long)n, file->size - 8);
    if (n == 0 || file->data[8] != '{')
        return error_set_at(err, MIL_INPUT, 8, "the header must begin with '{'");
    enum mil_status st = json_read_text((const char *)file->data + 8, n, "header", header, err);
    if (st != MIL_OK) {
        if (err && err->offset >= 0) err->offset += 8;
        return st;
    }
    *begin_of_data = 8 + (size_t)n;
    return MIL_OK;
}

/* The entries of the header as tensors; s->file and s->header are there. */
static enum mil_status read_tensors(struct st_shard *s, size_t begin, int index,
                                    struct mil_error *err) {
    json_t *info;
    const char *name;
    TRY(check_metadata(s->header, err));
    s->tensors = mem_calloc(MEM_IO, json_object_size(s->header), sizeof *s->tensors);
    if (!s->tensors) return error_nomem(err, 0);
    json_object_foreach(s->header, name, info) {
        if (strcmp(name, "__metadata__") == 0) continue;
        struct st_tensor *t = &s->tensors[s->n++];
        t->shard = index;
        TRY(read_tensor(name, info, begin, &s->file, t, err));
    }
    return check_tiling(s->tensors, s->n, begin, &s->file, err);
}

enum mil_status st_shard_open(const char *path, int index, struct st_shard *s,
                              struct mil_error *err) {
    size_t begin = 0;
    TRY(file_map(path, &s->file, err));
    enum mil_status st = parse_header(&s->file, &s->header, &begin, err);
    if (st == MIL_OK) st = read_tensors(s, begin, index, err);
    if (st == MIL_OK) return MIL_OK;
    error_prefix(err, "%s: ", path);
    st_shard_release(s);
    return st;
}

void st_shard_release(struct st_shard *s) {
    json_decref(s->header);
    mem_free(s->tensors);
    mem_free(s->name);
    file_unmap(&s->file);
    memset(s, 0, sizeof *s);
}
