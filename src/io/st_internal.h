/* SPDX-License-Identifier: Apache-2.0 */
/* st_internal.h - what the two safetensors readers share; nobody else includes it. */
#ifndef MIL_IO_ST_INTERNAL_H
#define MIL_IO_ST_INTERNAL_H

#include "io/file.h"
#include "io/safetensors.h"

/* One file: its mapping, its header (the tensors' names live in it), its tensors in file order. */
struct st_shard {
    char *name;
    struct mapped_file file;
    json_t *header;
    struct st_tensor *tensors;
    size_t n;
};

/* *s is zeroed by the caller; index goes into each tensor.  Releases *s on failure. */
enum mil_status st_shard_open(const char *path, int index, struct st_shard *s,
                              struct mil_error *err);
void st_shard_release(struct st_shard *s);

#endif
