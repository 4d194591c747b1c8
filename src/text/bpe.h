/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.h - byte-pair encoding of one stretch of text: start from single symbols and, as long as any
 * neighbours can be merged, merge the pair of lowest rank, the leftmost first.
 *
 * Two rules say what can be merged.  BPE_MERGES: a table of pairs of ids (tokenizer.json, GGUF
 * "gpt2").  BPE_SCORES: any pair whose joined text is a piece, ranked by that piece's score
 * (SentencePiece). O(n log n) by a heap over a linked list.  The model is read-only after loading;
 * scratch belongs to one call. */
#ifndef MIL_TEXT_BPE_H
#define MIL_TEXT_BPE_H

#include "text/tokenizer.h"
#include "text/vocab.h"

enum bpe_rule { BPE_MERGES, BPE_SCORES };

struct bpe {
    enum bpe_rule rule;
    struct vocab vocab;
    struct merges merges; /* BPE_MERGES */
    int32_t *rank;        /* BPE_SCORES: rank by id, equal scores equal rank */
    bool byte_symbols;    /* first symbols are bytes (byte-level); otherwise characters */
    bool ignore_merges;   /* a stretch that is a piece is that piece, whatever the merges say */
    bool byte_fallback;   /* a symbol outside the vocabulary becomes its bytes' tokens */
    bool fuse_unk;        /* neighbouring unknown symbols are one unknown token */
    int32_t unk;          /* -1: unknown symbols vanish, as the reference does */
    int32_t byte_ids[256];
};
void bpe_release(struct bpe *b);
/* Rank pieces by falling score, scores[id] for id in [0, vocab.n). */
enum mil_status bpe_rank_scores(struct bpe *b, const float *scores, struct mil_error *err);

struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_entry *heap;
    size_t cap_symbols, n_heap, cap_heap;
    struct bpe_word *words; /* tokens of stretches seen before; NULL: not kept */
};
void bpe_scratch_release(struct bpe_scratch *s);
/* From now on keep the tokens of short stretches, for use with one struct bpe only.  What bpe_encode
 * gives does not depend on it. */
enum mil_status bpe_scratch_remember(struct bpe_scratch *s, struct mil_error *err);
/* Append the tokens of text[0, n).  A token that begins at byte i gets the start map[i], or base +
 * i when map is NULL.  n < 2^31. */
enum mil_status bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *text, size_t n,
                           const int64_t *map, int64_t base, struct tokens *out,
                           struct mil_error *err);
/* Append one token (shared by all who produce tokens). */
enum mil_status tokens_add(struct tokens *t, int32_t id, int64_t start, struct mil_error *err);

#endif
