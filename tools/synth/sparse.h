/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.h - a safetensors file whose tensors are written in any order, or not at all.
 *
 * The file gets its full length at once; what is never written is a hole: zeros that take no disk.
 * io/safetensors.h has the writer for whole files; this one serves made-up models, most of whose
 * bytes nobody reads.  The file lies in a stage (io/file.h), which syncs and places it. */
#ifndef MIL_TOOLS_SYNTH_SPARSE_H
#define MIL_TOOLS_SYNTH_SPARSE_H

#include "io/safetensors.h"

struct sparse_file {
    int fd;
    const char *path;    /* borrowed */
    uint64_t data_begin; /* of the first tensor's bytes */
};
/* decls: plain types, unique names, shapes whose products fit. */
enum mil_status sparse_create(struct sparse_file *f, const char *path, const struct st_decl *decls,
                              size_t n, struct mil_error *err);
/* bytes at offset after data_begin. */
enum mil_status sparse_write(struct sparse_file *f, uint64_t offset, const void *bytes, size_t n,
                             struct mil_error *err);
/* Safe on zeroed and closed objects. */
enum mil_status sparse_close(struct sparse_file *f, struct mil_error *err);
uint64_t sparse_tensor_bytes(const struct st_decl *d);

#endif
