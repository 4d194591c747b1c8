/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_access.c - looking things up in a parsed GGUF file.
 *
 * Names are found by bisection in sorted indexes: a hash table would be faster by nothing that
 * matters at a few hundred names, and a hostile file could not slow this down.  Sorting also shows
 * repeated names and tensors that overlap. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/gguf_internal.h"

int gguf_str_compare(struct gguf_str a, struct gguf_str b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.data, b.data, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_key(const void *a, const void *b, void *ctx) {
    const struct gguf_kv *kvs = ctx;
    return gguf_str_compare(kvs[*(const size_t *)a].key, kvs[*(const size_t *)b].key);
}

static int by_name(const void *a, const void *b, void *ctx) {
    const struct gguf_tensor *t = ctx;
    return gguf_str_compare(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

static int by_place(const void *a, const void *b, void *ctx) {
    const struct gguf_tensor *t = ctx;
    const char *x = t[*(const size_t *)a].data, *y = t[*(const size_t *)b].data;
    return (x > y) - (x < y);
}

static enum mil_status check_overlap(const struct gguf_file *f, const size_t *order,
                                     struct mil_error *err) {
    for (size_t i = 1; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[order[i - 1]], *u = &f->tensors[order[i]];
        if ((const char *)u->data - (const char *)t->data < (ptrdiff_t)t->bytes)
            return error_set_at(err, MIL_INPUT, (const unsigned char *)u->data - f->file.data,
                                "tensors '%.*s' and '%.*s' overlap", (int)t->name.n, t->name.data,
                                (int)u->name.n, u->name.data);
    }
    return MIL_OK;
}

static enum mil_status repeated(const char *what, struct gguf_str name, struct mil_error *err) {
    return error_set(err, MIL_INPUT, "%s '%.*s' occurs twice", what, (int)name.n, name.data);
}

enum mil_status gguf_index(struct gguf_file *f, struct mil_error *err) {
    f->kv_order = mem_alloc(MEM_IO, f->n_kvs, sizeof *f->kv_order);
    f->tensor_order = mem_alloc(MEM_IO, f->n_tensors, sizeof *f->tensor_order);
    if (!f->kv_order || !f->tensor_order) return error_nomem(err, 0);
    for (size_t i = 0; i < f->n_kvs; i++) f->kv_order[i] = i;
    for (size_t i = 0; i < f->n_tensors; i++) f->tensor_order[i] = i;
    qsort_r(f->kv_order, f->n_kvs, sizeof *f->kv_order, by_key, f->kvs);
    for (size_t i = 1; i < f->n_kvs; i++)
        if (by_key(&f->kv_order[i - 1], &f->kv_order[i], f->kvs) == 0)
            return repeated("key", f->kvs[f->kv_order[i]].key, err);
    if (f->n_tensors == 0) return MIL_OK;
    qsort_r(f->tensor_order, f->n_tensors, sizeof *f->tensor_order, by_place, f->tensors);
    TRY(check_overlap(f, f->tensor_order, err));
    qsort_r(f->tensor_order, f->n_tensors, sizeof *f->tensor_order, by_name, f->tensors);
    for (size_t i = 1; i < f->n_tensors; i++)
        if (by_name(&f->tensor_order[i - 1], &f->tensor_order[i], f->tensors) == 0)
            return repeated("tensor", f->tensors[f->tensor_order[i]].name, err);
    return MIL_OK;
}

uint32_t gguf_version(const struct gguf_file *f) {
    return f->version;
}

size_t gguf_kv_count(const struct gguf_file *f) {
    return f->n_kvs;
}

const struct gguf_kv *gguf_kv_at(const struct gguf_file *f, size_t i) {
    REQUIRE(i < f->n_kvs);
    return &f->kvs[i];
}

size_t gguf_tensor_count(const struct gguf_file *f) {
    return f->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *f, size_t i) {
    REQUIRE(i < f->n_tensors);
    return &f->tensors[i];
}

const struct gguf_kv *gguf_find(const struct gguf_file *f, const char *key) {
    struct gguf_str want = {key, strlen(key)};
    size_t lo = 0, hi = f->n_kvs;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct gguf_kv *kv = &f->kvs[f->kv_order[mid]];
        int c = gguf_str_compare(want, kv->key);
        if (c == 0) return kv;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *f, const char *name) {
    struct gguf_str want = {name, strlen(name)};
    size_t lo = 0, hi = f->n_tensors;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct gguf_tensor *t = &f->tensors[f->tensor_order[mid]];
        int c = gguf_str_compare(want, t->name);
        if (c == 0) return t;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- values ---- */

/* Element i of a fixed-size type, zero-extended. */
static uint64_t raw_value(const struct gguf_kv *kv, uint64_t i) {
    REQUIRE(i < kv->n);
    size_t n = gguf_type_bytes(kv->elem);
    uint64_t v = 0;
    for (size_t k = n; k--;) v = v << 8 | kv->data[i * n + k];
    return v;
}

static bool is_float(enum gguf_type t) {
    return t == GGUF_F32 || t == GGUF_F64;
}

int64_t gguf_value_i64(const struct gguf_kv *kv, uint64_t i) {
    REQUIRE(kv->elem != GGUF_STRING && !is_float(kv->elem));
    uint64_t v = raw_value(kv, i);
    switch (kv->elem) {
    case GGUF_I8: return (int8_t)v;
    case GGUF_I16: return (int16_t)v;
    case GGUF_I32: return (int32_t)v;
    default: return (int64_t)v;
    }
}

double gguf_value_f64(const struct gguf_kv *kv, uint64_t i) {
    REQUIRE(kv->elem != GGUF_STRING);
    if (!is_float(kv->elem)) {
        if (kv->elem == GGUF_U64) return (double)raw_value(kv, i);
        return (double)gguf_value_i64(kv, i);
    }
    uint64_t v = raw_value(kv, i);
    double d;
    if (kv->elem == GGUF_F64) {
        memcpy(&d, &v, sizeof d);
        return d;
    }
    uint32_t low = (uint32_t)v;
    float f;
    memcpy(&f, &low, sizeof f);
    return f;
}

/* The scalar of that key, unless it is an array, a string or a bool. */
static const struct gguf_kv *find_number(const struct gguf_file *f, const char *key) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv || kv->type == GGUF_ARRAY || kv->type == GGUF_STRING || kv->type == GGUF_BOOL)
        return NULL;
    return kv;
}

bool gguf_get_i64(const struct gguf_file *f, const char *key, int64_t *out) {
    const struct gguf_kv *kv = find_number(f, key);
    if (!kv || is_float(kv->type)) return false;
    if (kv->type == GGUF_U64 && raw_value(kv, 0) > INT64_MAX) return false;
    *out = gguf_value_i64(kv, 0);
    return true;
}

bool gguf_get_f64(const struct gguf_file *f, const char *key, double *out) {
    const struct gguf_kv *kv = find_number(f, key);
    if (!kv) return false;
    *out = gguf_value_f64(kv, 0);
    return true;
}

bool gguf_get_bool(const struct gguf_file *f, const char *key, bool *out) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv || kv->type != GGUF_BOOL) return false;
    *out = kv->data[0] != 0;
    return true;
}

bool gguf_get_str(const struct gguf_file *f, const char *key, struct gguf_str *out) {
    const struct gguf_kv *kv = gguf_find(f, key);
    if (!kv || kv->type != GGUF_STRING) return false;
    *out = kv->strings[0];
    return true;
}
