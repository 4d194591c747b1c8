/* SPDX-License-Identifier: Apache-2.0 */
/* data_entry.h - tokenised data as one file of the cache (docs/formats/data-cache.md): its key, how it
 * is written, and when it is believed. */
#ifndef MIL_TRAIN_DATA_ENTRY_H
#define MIL_TRAIN_DATA_ENTRY_H

#include "io/hash.h"
#include "text/dataset.h"

/* What dataset_load takes; everything is borrowed. */
struct data_request {
    const struct dataset_source *sources;
    size_t n;
    const struct tokenizer *tokenizer;
    const struct dataset_options *options;
};

/* The key of what dataset_load would give: a hash over every byte of data that it would read, and all
 * else that its result depends on.  *bytes: of data.  A file that cannot be read fails as it would
 * there. */
enum mil_status data_entry_key(const struct data_request *q, char key[HASH_HEX], uint64_t *bytes,
                               struct mil_error *err);

#define DATA_ENTRY_NAME (HASH_HEX + 12)
void data_entry_name(const char key[HASH_HEX], char name[DATA_ENTRY_NAME]);
/* A name that data_entry_name makes. */
bool data_entry_is_name(const char *name);

uint64_t data_entry_bytes(const struct dataset *d); /* at most, as a file */
enum mil_status data_entry_write(const char *path, const char key[HASH_HEX],
                                 const struct dataset *d, struct mil_error *err);
/* *found false: there is none.  Whatever is wrong with it is an error, and *out is empty. */
enum mil_status data_entry_read(const char *path, const char key[HASH_HEX],
                                const struct data_request *q, struct dataset *out, bool *found,
                                struct mil_error *err);

#endif
