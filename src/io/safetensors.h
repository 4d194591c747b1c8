/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h - the tensor file of Hugging Face: u64 header size, JSON header, tensor bytes.
 *
 * Reading maps the file and validates every fact of the header (size, JSON, dtypes, shapes, offsets
 * in range, contiguous without hole or overlap as the reference implementation demands) before
 * anything is handed out; docs/formats/safetensors.md.  Views stay valid until close.
 * checkpoint_open reads a directory: model.safetensors, or the shards of
 * model.safetensors.index.json (shard names may not leave the directory; the index and the shards
 * must agree). */
#ifndef MIL_IO_SAFETENSORS_H
#define MIL_IO_SAFETENSORS_H

#include <jansson.h>

#include "core/dtype.h"
#include "core/error.h"

#define ST_MAX_DIMS 8

struct st_tensor {
    const char *name; /* borrowed from the file object */
    enum dtype dtype;
    int ndim;
    int64_t shape[ST_MAX_DIMS];
    const void *data; /* in the mapping; aligned to the element only if the writer did so */
    size_t bytes;
    int shard; /* index of its file in a checkpoint, 0 for a single file */
};

struct st_file;
enum mil_status st_open(const char *path, struct st_file **out, struct mil_error *err);
void st_free(struct st_file **f);
size_t st_count(const struct st_file *f);
/* In file order. */
const struct st_tensor *st_at(const struct st_file *f, size_t i);
/* NULL if there is none of that name. */
const struct st_tensor *st_find(const struct st_file *f, const char *name);
/* Value of __metadata__, or NULL. */
const char *st_metadata(const struct st_file *f, const char *key);
/* The whole __metadata__ object, borrowed, or NULL. */
const json_t *st_metadata_all(const struct st_file *f);

/* One or several files seen as one; same accessors through the st_ functions on *out's files. */
enum mil_status st_open_checkpoint(const char *dir, struct st_file **out, struct mil_error *err);
/* File name (without directory) of a shard, e.g. "model-00001-of-00002.safetensors". */
size_t st_shards(const struct st_file *f);
const char *st_shard_name(const struct st_file *f, size_t shard);

/* Writing: declare all tensors, then give their bytes in the order of declaration; names must be
 * unique. metadata: object of strings or NULL (borrowed).  Commit is atomic (io/file.h). */
struct st_decl {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[ST_MAX_DIMS];
};
struct st_writer;
enum mil_status st_writer_new(const char *path, const json_t *metadata, const struct st_decl *decls,
                              size_t n, struct st_writer **out, struct mil_error *err);
/* Bytes of the current tensor, in any number of pieces; the next tensor begins when it is full. */
enum mil_status st_writer_put(struct st_writer *w, const void *bytes, size_t n,
                              struct mil_error *err);
/* MIL_MISMATCH-free: REQUIREs that all bytes were given.  Frees and nulls *w, also on failure. */
enum mil_status st_writer_commit(struct st_writer **w, struct mil_error *err);
void st_writer_free(struct st_writer **w);

#endif
