/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_internal.h - the parsed file, shared by the three gguf sources; nobody else includes it. */
#ifndef MIL_IO_GGUF_INTERNAL_H
#define MIL_IO_GGUF_INTERNAL_H

#include "io/file.h"
#include "io/gguf.h"

#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_MAX_KEY 65535 /* the format's own limit */
#define GGUF_MAX_NAME 1024 /* llama.cpp writes at most 64 */

struct gguf_file {
    struct mapped_file file;
    uint32_t version;
    size_t alignment;
    struct gguf_kv *kvs;
    struct gguf_tensor *tensors;
    size_t n_kvs, n_tensors;
    size_t *kv_order, *tensor_order; /* indexes, sorted by key / name */
};

/* Bytes of one value of a fixed-size type; 0 for strings, arrays and unknown numbers. */
size_t gguf_type_bytes(uint32_t type);
int gguf_str_compare(struct gguf_str a, struct gguf_str b);

/* Build both orders; repeated names and overlapping tensors are MIL_INPUT. */
enum mil_status gguf_index(struct gguf_file *f, struct mil_error *err);

/* GGUF's number of a tensor type -> ours; false with its name (or NULL) when we have none. */
bool gguf_dtype(uint32_t number, enum dtype *out, const char **name);
/* The number of a plain float type. */
uint32_t gguf_dtype_number(enum dtype t);

#endif
