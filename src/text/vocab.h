/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - the pieces of a tokenizer by id and by content, and its table of merges.
 *
 * A piece has two forms: as the file writes it ("Ġthe"), and the bytes it stands for (" the").  For
 * SentencePiece vocabularies both are the same.  Lookup by content uses the second form and finds
 * only pieces marked PIECE_KEY: those that merging can produce.  Built once, then read-only. */
#ifndef MIL_TEXT_VOCAB_H
#define MIL_TEXT_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#define VOCAB_MAX_ID ((int64_t)1 << 24) /* a hundred times today's largest vocabularies */

enum {
    PIECE_PRESENT = 1, /* the id is in use */
    PIECE_KEY = 2,     /* found by vocab_find */
    PIECE_SPECIAL = 4, /* control token: left out when decoding with skip_special */
    PIECE_RAW = 8      /* an added token: its file form is plain text, not byte-mapped */
};

struct piece {
    size_t at; /* bytes [at, at + n) of vocab.bytes */
    uint32_t n;
    uint8_t flags;
};

/* Open addressing; the tag is part of the hash, so that other keys are passed without a look at
 * their bytes. */
struct vocab_slot {
    uint32_t tag;
    int32_t id; /* -1: empty */
};

struct vocab {
    struct str bytes;
    struct piece *pieces; /* indexed by id */
    int32_t n, cap;       /* n: largest id + 1 */
    struct vocab_slot *slots;
    size_t n_slots; /* power of two */
    uint32_t longest_key;
    bool repeats; /* two keys are equal */
};

void vocab_release(struct vocab *v);
/* Set piece `id` (content copied).  An id given twice is MIL_INPUT, one outside [0, VOCAB_MAX_ID)
 * too. */
enum mil_status vocab_put(struct vocab *v, int64_t id, const char *bytes, size_t n, unsigned flags,
                          struct mil_error *err);
/* Build the lookup by content; call once after the last put.  Of equal keys the lowest id wins. */
enum mil_status vocab_index(struct vocab *v, struct mil_error *err);
int32_t vocab_find(const struct vocab *v, const char *bytes, size_t n); /* -1: none */
/* The id is in [0, n) and in use. */
bool vocab_has(const struct vocab *v, int64_t id);
static inline const char *vocab_bytes(const struct vocab *v, int32_t id) {
    return str_c(&v->bytes) + v->pieces[id].at;
}

/* Merges by pair of ids: most pairs that are looked up are none, so keys and what they lead to lie
 * apart. */
struct merge {
    int32_t rank, id; /* lower rank first; id: what the pair becomes */
};
struct merges {
    uint64_t *keys; /* left << 32 | right, or MERGE_NONE; open addressing */
    struct merge *values;
    size_t n_slots, n;
};
void merges_release(struct merges *m);
/* Room for n merges. */
enum mil_status merges_reserve(struct merges *m, size_t n, struct mil_error *err);
/* A pair given twice keeps the later rank, as the reference implementation does. */
void merges_put(struct merges *m, int32_t left, int32_t right, struct merge merge);
const struct merge *merges_find(const struct merges *m, int32_t left, int32_t right);

/* 64-bit hash of bytes, for tables in memory only. */
uint64_t text_hash(const char *bytes, size_t n);

#endif
