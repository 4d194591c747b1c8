/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h - the model file of llama.cpp, versions 2 and 3 (little endian): typed metadata, tensors.
 *
 * Reading maps the file and validates header, key-value pairs, tensor infos, alignment and data
 * ranges before anything is handed out.  Dimensions are kept in GGUF's order (ne[0] is the
 * contiguous one). Tensor types outside core/dtype.h are MIL_UNSUPPORTED by name. */
#ifndef MIL_IO_GGUF_H
#define MIL_IO_GGUF_H

#include <stdbool.h>

#include "core/dtype.h"
#include "core/error.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

/* A string in the mapping: not NUL-terminated. */
struct gguf_str {
    const char *data;
    size_t n;
};
struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type, elem; /* elem: the element type of an array */
    uint64_t n;                /* elements of an array, 1 otherwise */
    const unsigned char *data; /* first value, in the mapping, unaligned */
    struct gguf_str *strings;  /* n strings of a string or string array, else NULL */
};
struct gguf_tensor {
    struct gguf_str name;
    enum dtype dtype;
    int ndim;
    int64_t ne[4]; /* unused ones are 1 */
    const void *data;
    size_t bytes;
};

struct gguf_file;
enum mil_status gguf_open(const char *path, struct gguf_file **out, struct mil_error *err);
void gguf_free(struct gguf_file **f);
uint32_t gguf_version(const struct gguf_file *f);
size_t gguf_kv_count(const struct gguf_file *f);
const struct gguf_kv *gguf_kv_at(const struct gguf_file *f, size_t i);
const struct gguf_kv *gguf_find(const struct gguf_file *f, const char *key);
size_t gguf_tensor_count(const struct gguf_file *f);
const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *f, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf_file *f, const char *name);

/* Scalars, converted; false when absent or of another kind. */
bool gguf_get_i64(const struct gguf_file *f, const char *key, int64_t *out);
bool gguf_get_f64(const struct gguf_file *f, const char *key, double *out);
bool gguf_get_bool(const struct gguf_file *f, const char *key, bool *out);
bool gguf_get_str(const struct gguf_file *f, const char *key, struct gguf_str *out);
/* Element i < kv->n of a numeric array or scalar. */
int64_t gguf_value_i64(const struct gguf_kv *kv, uint64_t i);
double gguf_value_f64(const struct gguf_kv *kv, uint64_t i);

/* Writing a version-3 file: metadata, then tensors (F32, F16, BF16), then commit (atomic). */
struct gguf_writer;
enum mil_status gguf_writer_new(const char *path, struct gguf_writer **out, struct mil_error *err);
void gguf_put_str(struct gguf_writer *w, const char *key, const char *value);
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_writer *w, const char *key, float value);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool value);
/* data must stay valid until commit. */
void gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype dtype, int ndim,
                     const int64_t *ne, const void *data);
/* Frees and nulls *w, also on failure; a failed put is reported here. */
enum mil_status gguf_writer_commit(struct gguf_writer **w, struct mil_error *err);

#endif
