/* SPDX-License-Identifier: Apache-2.0 */
/* svd_cache.h - decompositions kept on disk: one file for each weight and each set of triplets.
 *
 * An entry is found by the content of the stored weight (XXH3-128 over type, shape and bytes),
 * never by a model's name: the same matrix in another checkpoint, method or run is a hit.  What was
 * computed for the bottom at rank R serves every bottom of rank r <= R, and so does the top; other
 * requests (middle, random, chosen) must mean exactly the same indices.
 *
 * An entry is trusted only after its checksum, its shapes and values, and a sample of the equations
 * W v = s u, W^T u = s v held against the weight at hand; anything else is counted, told once
 * (svd_cache_warning) and computed again.  Writers rename a complete file into place: any number of
 * processes may share a directory.  A directory that cannot be written costs the cache, not the
 * run.  docs/formats/svd-cache.md. */
#ifndef MIL_ADAPT_SVD_CACHE_H
#define MIL_ADAPT_SVD_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "linalg/svd.h"

struct svd_cache;

struct svd_cache_options {
    const char *dir;
    /* The entries of the directory together take at most this many bytes; the least recently used
     * go first, none that this object read or wrote.  0: no limit. */
    uint64_t limit_bytes;
    /* Keep nothing until so many seconds were spent computing, all threads together: short work
     * leaves no files. */
    double after_seconds;
};
struct svd_cache_stats {
    size_t hits, misses;
    size_t stored;
    size_t rejected; /* entries that were broken or belonged to another weight */
    size_t evicted;
    size_t unwritten; /* results that could not be, or by the limit may not be, kept */
};

/* Makes nothing on disk; the directory is made for the first entry.  MIL_ACCESS when dir is
 * something else than a directory.  MIL_NOMEM. */
enum mil_status svd_cache_open(const struct svd_cache_options *o, struct svd_cache **out,
                               struct mil_error *err);
/* NULL and NULL content are fine; the files stay. */
void svd_cache_free(struct svd_cache **c);
/* Remove the entries and the left-over temporary files in the directory, and the directory if then
 * nothing is left in it. */
void svd_cache_remove(struct svd_cache *c);

/* svd_compute, or the entry that serves the request; c NULL: svd_compute.  *hit tells which.  Called
 * from several threads at once.  A hit's certificate and seconds are those of the entry; its
 * served_by is the method that made it. */
enum mil_status svd_cached(struct svd_cache *c, const struct svd_matrix *w,
                           const struct svd_request *q, struct svd_result *out, bool *hit,
                           struct mil_error *err);

struct svd_cache_stats svd_cache_stats(struct svd_cache *c);
/* A line about what was not well since the last call (a broken entry, no room on the disk); false:
 * nothing to say.  The cache itself logs nothing: it does not know whose turn it is to speak. */
bool svd_cache_warning(struct svd_cache *c, char line[512]);

#endif
