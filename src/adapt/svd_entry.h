/* SPDX-License-Identifier: Apache-2.0 */
/* svd_entry.h - one decomposition as one file; private to svd_cache.c. */
#ifndef MIL_ADAPT_SVD_ENTRY_H
#define MIL_ADAPT_SVD_ENTRY_H

#include <stdbool.h>

#include "io/hash.h"
#include "linalg/svd.h"

/* What an entry is of. */
struct svd_entry_id {
    char weight[HASH_HEX]; /* svd_entry_weight */
    const char *end;       /* "bottom", "top", "set" */
    int64_t m, n;
};
enum { SVD_ENTRY_NAME = 96 };

/* Hash of the stored weight: type, shape, bytes.  MIL_NOMEM. */
enum mil_status svd_entry_weight(const struct svd_matrix *w, char out[HASH_HEX],
                                 struct mil_error *err);
/* File name of the request's entry; index [rank] from svd_indices.  Fills id.  MIL_NOMEM. */
enum mil_status svd_entry_name(const struct svd_matrix *w, const struct svd_request *q,
                               const int64_t *index, struct svd_entry_id *id,
                               char name[SVD_ENTRY_NAME], struct mil_error *err);
/* Is this the name of an entry? */
bool svd_entry_is_name(const char *name);
/* Upper bound of the file's size. */
uint64_t svd_entry_bytes(int64_t m, int64_t n, int64_t rank);

enum svd_entry_found { SVD_ENTRY_SERVES, SVD_ENTRY_ABSENT, SVD_ENTRY_SMALLER };
/* The `rank` triplets with these indices into *out (svd_release), if the file holds them: *found.
 * Any other status than MIL_OK and MIL_NOMEM: the entry is not to be trusted, err says why. */
enum mil_status svd_entry_read(const char *path, const struct svd_entry_id *id,
                               const struct svd_matrix *w, const int64_t *index, int64_t rank,
                               struct svd_result *out, enum svd_entry_found *found,
                               struct mil_error *err);
/* Rank of the entry by its header alone; 0: none, or no header to speak of. */
int64_t svd_entry_rank(const char *path);
enum mil_status svd_entry_write(const char *path, const struct svd_entry_id *id,
                                const int64_t *index, const struct svd_result *r,
                                struct mil_error *err);

#endif
