/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - parsing and validating a GGUF file, versions 2 and 3.
 *
 *     "GGUF" | u32 version | u64 tensors | u64 key-value pairs
 *     pairs:    string key | u32 type | value          string: u64 length | bytes
 *               array value: u32 element type | u64 n | n values
 *     infos:    string name | u32 dims | u64 ne[dims] | u32 type | u64 offset
 *     padding to general.alignment (32 unless said), then the tensors' data
 *
 * One cursor walks the header; it never passes the end of the mapping, and every count is checked
 * against the bytes that so many items need at least, so that memory stays within a small multiple
 * of the file's size.  Offsets are those of the file in all messages. */
#include "io/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/gguf_internal.h"

#define MIN_KV_BYTES 14     /* key length, a one-byte key, type, a one-byte value */
#define MIN_TENSOR_BYTES 33 /* name length, a one-byte name, dims, one ne, type, offset */
#define MAX_ALIGNMENT ((size_t)1 << 20)

struct cursor {
    const unsigned char *data;
    size_t size, at;
    struct mil_error *err;
};

static enum mil_status cut_off(const struct cursor *c, uint64_t need, const char *what) {
    return error_set_at(c->err, MIL_INPUT, (int64_t)c->at,
                        "byte %zu: %s needs %llu bytes, but the file ends after %zu (cut off?)",
                        c->at, what, (unsigned long long)need, c->size - c->at);
}

static uint64_t little_endian(const unsigned char *p, size_t n) {
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

static enum mil_status read_u32(struct cursor *c, const char *what, uint32_t *out) {
    if (c->size - c->at < 4) return cut_off(c, 4, what);
    *out = (uint32_t)little_endian(c->data + c->at, 4);
    c->at += 4;
    return MIL_OK;
}

static enum mil_status read_u64(struct cursor *c, const char *what, uint64_t *out) {
    if (c->size - c->at < 8) return cut_off(c, 8, what);
    *out = little_endian(c->data + c->at, 8);
    c->at += 8;
    return MIL_OK;
}

static enum mil_status read_str(struct cursor *c, const char *what, struct gguf_str *out) {
    uint64_t n = 0;
    TRY(read_u64(c, what, &n));
    if (n > c->size - c->at) return cut_off(c, n, what);
    out->data = (const char *)c->data + c->at;
    out->n = (size_t)n;
    c->at += (size_t)n;
    return MIL_OK;
}

/* A key or a tensor's name: becomes a C string in other places, so it may hold no NUL. */
static enum mil_status read_name(struct cursor *c, const char *what, size_t limit,
                                 struct gguf_str *out) {
    size_t start = c->at;
    TRY(read_str(c, what, out));
    if (out->n == 0 || out->n > limit)
        return error_set_at(c->err, MIL_INPUT, (int64_t)start,
                            "byte %zu: %s is %zu bytes long, must be 1 to %zu", start, what, out->n,
                            limit);
    if (memchr(out->data, 0, out->n))
        return error_set_at(c->err, MIL_INPUT, (int64_t)start, "byte %zu: %s holds a NUL", start,
                            what);
    if (utf8_valid_prefix(out->data, out->n) != out->n)
        return error_set_at(c->err, MIL_INPUT, (int64_t)start, "byte %zu: %s is not valid UTF-8",
                            start, what);
    return MIL_OK;
}

/* kv->n strings at the cursor. */
static enum mil_status read_strings(struct cursor *c, struct gguf_kv *kv) {
    if (kv->n > (c->size - c->at) / 8) return cut_off(c, kv->n, "an array of strings");
    kv->strings = mem_alloc(MEM_IO, (size_t)kv->n, sizeof *kv->strings);
    if (!kv->strings) return error_nomem(c->err, kv->n * sizeof *kv->strings);
    for (uint64_t i = 0; i < kv->n; i++) TRY(read_str(c, "a string", &kv->strings[i]));
    return MIL_OK;
}

/* kv->n values of a fixed-size type at the cursor. */
static enum mil_status read_numbers(struct cursor *c, struct gguf_kv *kv, enum gguf_type type) {
    size_t each = gguf_type_bytes(type);
    if (kv->n > (c->size - c->at) / each) return cut_off(c, kv->n, "an array");
    size_t bytes = (size_t)kv->n * each;
    for (size_t i = 0; type == GGUF_BOOL && i < bytes; i++)
        if (kv->data[i] > 1)
            return error_set_at(c->err, MIL_INPUT, (int64_t)(c->at + i),
                                "byte %zu: a bool must be 0 or 1, is %u", c->at + i, kv->data[i]);
    c->at += bytes;
    return MIL_OK;
}

static enum mil_status read_value(struct cursor *c, struct gguf_kv *kv, uint32_t type) {
    kv->data = c->data + c->at;
    if (type == GGUF_STRING) return read_strings(c, kv);
    if (gguf_type_bytes(type)) return read_numbers(c, kv, (enum gguf_type)type);
    return error_set_at(c->err, MIL_INPUT, (int64_t)c->at - 4,
                        "byte %zu: value type %u of key '%.*s' is none of GGUF's", c->at - 4, type,
                        (int)kv->key.n, kv->key.data);
}

static enum mil_status read_kv(struct cursor *c, struct gguf_kv *kv) {
    uint32_t type = 0, elem = 0;
    TRY(read_name(c, "a key", GGUF_MAX_KEY, &kv->key));
    TRY(read_u32(c, "a value's type", &type));
    kv->type = kv->elem = (enum gguf_type)type;
    kv->n = 1;
    if (type != GGUF_ARRAY) return read_value(c, kv, type);
    TRY(read_u32(c, "an array's element type", &elem));
    if (elem == GGUF_ARRAY)
        return error_set_at(c->err, MIL_UNSUPPORTED, (int64_t)c->at - 4,
                            "byte %zu: key '%.*s' holds an array of arrays", c->at - 4,
                            (int)kv->key.n, kv->key.data);
    kv->elem = (enum gguf_type)elem;
    TRY(read_u64(c, "an array's length", &kv->n));
    return read_value(c, kv, elem);
}

static enum mil_status read_kvs(struct cursor *c, struct gguf_file *f, uint64_t n) {
    if (n > (c->size - c->at) / MIN_KV_BYTES)
        return error_set_at(c->err, MIL_INPUT, 16,
                            "%llu key-value pairs are claimed, more than %zu bytes can hold",
                            (unsigned long long)n, c->size - c->at);
    f->kvs = mem_calloc(MEM_IO, (size_t)n, sizeof *f->kvs);
    if (!f->kvs) return error_nomem(c->err, n * sizeof *f->kvs);
    f->n_kvs = (size_t)n;
    for (size_t i = 0; i < f->n_kvs; i++) TRY(read_kv(c, &f->kvs[i]));
    return MIL_OK;
}

static enum mil_status bad_tensor(const struct cursor *c, const struct gguf_tensor *t,
                                  const char *what) {
    return error_set_at(c->err, MIL_INPUT, (int64_t)c->at, "byte %zu: tensor '%.*s': %s", c->at,
                        (int)t->name.n, t->name.data, what);
}

static enum mil_status read_dims(struct cursor *c, struct gguf_tensor *t, uint64_t *elems) {
    uint32_t ndim = 0;
    TRY(read_u32(c, "the number of dimensions", &ndim));
    if (ndim < 1 || ndim > 4) return bad_tensor(c, t, "must have 1 to 4 dimensions");
    t->ndim = (int)ndim;
    int64_t product = 1;
    for (int i = 0; i < 4; i++) {
        uint64_t ne = 1;
        if (i < t->ndim) TRY(read_u64(c, "a dimension", &ne));
        if (ne < 1 || ne > INT64_MAX || !checked_mul_i64(product, (int64_t)ne, &product))
            return bad_tensor(c, t, "a dimension is 0, or their product overflows");
        t->ne[i] = (int64_t)ne;
    }
    *elems = (uint64_t)product;
    return MIL_OK;
}

/* The data pointer waits until the header's end is known: *offset is kept in the meantime. */
static enum mil_status read_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t *offset) {
    uint64_t elems = 0;
    uint32_t number = 0;
    const char *name;
    TRY(read_name(c, "a tensor's name", GGUF_MAX_NAME, &t->name));
    TRY(read_dims(c, t, &elems));
    TRY(read_u32(c, "a tensor's type", &number));
    if (!gguf_dtype(number, &t->dtype, &name))
        return error_set_at(
            c->err, MIL_UNSUPPORTED, (int64_t)c->at - 4,
            "byte %zu: tensor '%.*s' has type %s (number %u), which is not supported", c->at - 4,
            (int)t->name.n, t->name.data, name ? name : "unknown", number);
    if ((uint64_t)t->ne[0] % dtype_block_elems(t->dtype) ||
        !dtype_bytes(t->dtype, elems, &t->bytes))
        return bad_tensor(c, t, "its rows are no whole number of blocks of its type");
    return read_u64(c, "a tensor's offset", offset);
}

static enum mil_status place_tensor(const struct cursor *c, const struct gguf_file *f,
                                    struct gguf_tensor *t, uint64_t offset) {
    size_t base = align_up(c->at, f->alignment);
    if (offset % f->alignment)
        return error_set_at(c->err, MIL_INPUT, (int64_t)c->at,
                            "tensor '%.*s': offset %llu is no multiple of the alignment %zu",
                            (int)t->name.n, t->name.data, (unsigned long long)offset, f->alignment);
    if (base > c->size || !range_within(offset, t->bytes, c->size - base))
        return error_set_at(c->err, MIL_INPUT, (int64_t)base,
                            "tensor '%.*s': %zu bytes at offset %llu of the data leave the file of "
                            "%zu bytes (cut off?)",
                            (int)t->name.n, t->name.data, t->bytes, (unsigned long long)offset,
                            c->size);
    t->data = c->data + base + (size_t)offset;
    return MIL_OK;
}

static enum mil_status read_tensors(struct cursor *c, struct gguf_file *f, uint64_t n) {
    if (n > (c->size - c->at) / MIN_TENSOR_BYTES)
        return error_set_at(c->err, MIL_INPUT, 8,
                            "%llu tensors are claimed, more than %zu bytes can hold",
                            (unsigned long long)n, c->size - c->at);
    f->tensors = mem_calloc(MEM_IO, (size_t)n, sizeof *f->tensors);
    uint64_t *offsets = mem_calloc(MEM_IO, (size_t)n, sizeof *offsets);
    f->n_tensors = (size_t)n;
    enum mil_status st = MIL_OK;
    if (!f->tensors || !offsets) {
        f->n_tensors = 0;
        st = error_nomem(c->err, n * sizeof *f->tensors);
    }
    for (size_t i = 0; i < f->n_tensors && st == MIL_OK; i++)
        st = read_tensor(c, &f->tensors[i], &offsets[i]);
    for (size_t i = 0; i < f->n_tensors && st == MIL_OK; i++)
        st = place_tensor(c, f, &f->tensors[i], offsets[i]);
    mem_free(offsets);
    return st;
}

/* general.alignment, before the tensors' places are computed. */
static enum mil_status read_alignment(struct gguf_file *f, struct mil_error *err) {
    static const char key[] = "general.alignment";
    f->alignment = GGUF_DEFAULT_ALIGNMENT;
    for (size_t i = 0; i < f->n_kvs; i++) {
        const struct gguf_kv *kv = &f->kvs[i];
        if (gguf_str_compare(kv->key, (struct gguf_str){key, sizeof key - 1}) != 0) continue;
        if (kv->type != GGUF_U32)
            return error_set(err, MIL_INPUT, "general.alignment must be a 32-bit integer");
        uint64_t a = little_endian(kv->data, 4);
        if (a == 0 || a & (a - 1) || a > MAX_ALIGNMENT)
            return error_set(err, MIL_INPUT,
                             "general.alignment is %llu, must be a power of two up to %zu",
                             (unsigned long long)a, MAX_ALIGNMENT);
        f->alignment = (size_t)a;
    }
    return MIL_OK;
}

static enum mil_status read_version(struct cursor *c, struct gguf_file *f) {
    if (c->size < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return error_set_at(c->err, MIL_INPUT, 0, "does not begin with 'GGUF': not a GGUF file");
    c->at = 4;
    TRY(read_u32(c, "the version", &f->version));
    if (f->version == 2 || f->version == 3) return MIL_OK;
    bool swapped = f->version == 2u << 24 || f->version == 3u << 24;
    return error_set_at(
        c->err, MIL_UNSUPPORTED, 4, "GGUF version %u%s is not supported (2 and 3 are)",
        swapped ? f->version >> 24 : f->version, swapped ? " in big-endian order" : "");
}

static enum mil_status parse(struct gguf_file *f, struct mil_error *err) {
    struct cursor c = {f->file.data, f->file.size, 0, err};
    uint64_t n_tensors = 0, n_kvs = 0;
    TRY(read_version(&c, f));
    TRY(read_u64(&c, "the number of tensors", &n_tensors));
    TRY(read_u64(&c, "the number of key-value pairs", &n_kvs));
    TRY(read_kvs(&c, f, n_kvs));
    TRY(read_alignment(f, err));
    TRY(read_tensors(&c, f, n_tensors));
    return gguf_index(f, err);
}

enum mil_status gguf_open(const char *path, struct gguf_file **out, struct mil_error *err) {
    *out = NULL;
    struct gguf_file *f = mem_calloc(MEM_IO, 1, sizeof *f);
    if (!f) return error_nomem(err, sizeof *f);
    enum mil_status st = file_map(path, &f->file, err);
    if (st == MIL_OK) {
        st = parse(f, err);
        if (st != MIL_OK) error_prefix(err, "%s: ", path);
    }
    if (st == MIL_OK)
        *out = f;
    else
        gguf_free(&f);
    return st;
}

void gguf_free(struct gguf_file **f) {
    if (!f || !*f) return;
    for (size_t i = 0; (*f)->kvs && i < (*f)->n_kvs; i++) mem_free((*f)->kvs[i].strings);
    mem_free((*f)->kvs);
    mem_free((*f)->tensors);
    mem_free((*f)->kv_order);
    mem_free((*f)->tensor_order);
    file_unmap(&(*f)->file);
    mem_free(*f);
    *f = NULL;
}
