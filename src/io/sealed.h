/* SPDX-License-Identifier: Apache-2.0 */
/* sealed.h - what a cache keeps as one file: a few tensors and metadata under a checksum, as safetensors.
 *
 * Files of a cache may be cut, changed or put there by anybody, so a reader believes nothing before
 * sealed_check; and as the file may change while it is mapped, a reader that goes on using the tensors checks
 * a copy.  Names of such files begin with the hash that they are kept under; half-written ones with "tmp-" before it
 * (io/file.h). */
#ifndef MIL_IO_SEALED_H
#define MIL_IO_SEALED_H

#include "io/hash.h"
#include "io/safetensors.h"

#define SEALED_SUFFIX ".safetensors"
enum { SEALED_VALUE_CAP = 48, SEALED_VALUES = 16, SEALED_PARTS = 4, SEALED_HEADER_ROOM = 1 << 12 };

/* What is kept beside the tensors, all of it text: n <= SEALED_VALUES keys, the first one "format". */
struct sealed_values {
    const char *const *keys;
    size_t n;
    char text[SEALED_VALUES][SEALED_VALUE_CAP];
};
/* A tensor and its values; bytes follow from type and shape. */
struct sealed_part {
    struct st_decl decl;
    const void *data;
};

/* true if the first characters of `name` are a hash in hexadecimal. */
bool sealed_begins_with_hash(const char *name);
/* true for the name of a half-written file of a cache. */
bool sealed_is_temporary(const char *name);

/* Write the file (atomic). */
enum mil_status sealed_write(const char *path, const struct sealed_values *v,
                             const struct sealed_part *parts, size_t n, struct mil_error *err);
/* Open a regular file (a symbolic link is none) of at most `limit` bytes that holds all keys of v, v->text[0] as its
 * format; fills v->text.  *file is NULL where there is no such file.  MIL_INPUT: not to be trusted, and why. */
enum mil_status sealed_open(const char *path, uint64_t limit, struct sealed_values *v,
                            struct st_file **file, struct mil_error *err);
/* Do metadata and the data of these parts have the file's checksum?  MIL_INPUT, MIL_NOMEM. */
enum mil_status sealed_check(const char *path, const struct st_file *file,
                             const struct sealed_values *v, const struct sealed_part *parts,
                             size_t n, struct mil_error *err);

#endif
