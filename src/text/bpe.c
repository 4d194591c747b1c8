/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c - see bpe.h.  R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words
 * with subword units" (ACL 2016), in the order of merging that Hugging Face tokenizers and
 * SentencePiece use: rank first, then position.
 *
 *   symbols:  [H][e][l][l][o]      a doubly linked list in an array; a merged-away symbol has n = 0
 *   heap:     (rank, position, ...) of every pair that could merge when it was pushed
 *
 * An entry that the list has moved on from is told by its recorded length: symbols only grow, so a
 * pair that still starts at `at` and spans `n` bytes is the pair that was pushed.
 *
 * Text repeats itself: of the stretches of a prompt, nine in ten were seen a moment ago.  A scratch
 * that is used for many texts keeps the tokens of the last stretch that fell into each of WORDS
 * places, a cache line each, half a mebibyte together. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

struct bpe_symbol {
    uint32_t at, n; /* bytes of the text; n == 0: merged into its left neighbour */
    int32_t id;     /* -1: not a piece */
    int32_t prev, next;
};
struct bpe_entry {
    int32_t rank, left; /* key: lower rank, then lower position */
    int32_t id;
    uint32_t n; /* bytes of both symbols together */
};

enum { WORDS = 1 << 13, WORD_BYTES = 24, WORD_TOKENS = 7 };
struct bpe_word {
    char text[WORD_BYTES]; /* zero-padded */
    int32_t ids[WORD_TOKENS];
    uint8_t starts[WORD_TOKENS];
    uint8_t n, count; /* bytes, tokens; n == 0: nothing is kept here */
};

void tokens_release(struct tokens *t) {
    mem_free(t->ids);
    mem_free(t->starts);
    memset(t, 0, sizeof *t);
}

enum mil_status tokens_add(struct tokens *t, int32_t id, int64_t start, struct mil_error *err) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        int32_t *ids = mem_realloc(MEM_TEXT, t->ids, cap, sizeof *ids);
        if (ids) t->ids = ids;
        int64_t *starts = mem_realloc(MEM_TEXT, t->starts, cap, sizeof *starts);
        if (starts) t->starts = starts;
        if (!ids || !starts) return error_nomem(err, cap * sizeof *starts);
        t->cap = cap;
    }
    t->ids[t->n] = id;
    t->starts[t->n++] = start;
    return MIL_OK;
}

void bpe_release(struct bpe *b) {
    vocab_release(&b->vocab);
    merges_release(&b->merges);
    mem_free(b->rank);
    b->rank = NULL;
}

void bpe_scratch_release(struct bpe_scratch *s) {
    mem_free(s->symbols);
    mem_free(s->heap);
    mem_free(s->words);
    memset(s, 0, sizeof *s);
}

enum mil_status bpe_scratch_remember(struct bpe_scratch *s, struct mil_error *err) {
    s->words = mem_calloc(MEM_TEXT, WORDS, sizeof *s->words);
    return s->words ? MIL_OK : error_nomem(err, WORDS * sizeof *s->words);
}

struct scored {
    float score;
    int32_t id;
};

static int by_falling_score(const void *a, const void *b) {
    float x = ((const struct scored *)a)->score, y = ((const struct scored *)b)->score;
    return (x < y) - (x > y);
}

enum mil_status bpe_rank_scores(struct bpe *b, const float *scores, struct mil_error *err) {
    size_t n = (size_t)b->vocab.n;
    struct scored *sorted = mem_alloc(MEM_TEXT, n, sizeof *sorted);
    b->rank = mem_alloc(MEM_TEXT, n, sizeof *b->rank);
    enum mil_status st = MIL_OK;
    if (!sorted || !b->rank) st = error_nomem(err, n * sizeof *sorted);
    for (size_t i = 0; st == MIL_OK && i < n; i++) {
        sorted[i] = (struct scored){scores[i], (int32_t)i};
        if (scores[i] != scores[i])
            st = error_set(err, MIL_INPUT, "the score of token %zu is not a number", i);
    }
    if (st == MIL_OK) {
        qsort(sorted, n, sizeof *sorted, by_falling_score);
        int32_t rank = 0;
        for (size_t i = 0; i < n; i++) {
            if (i > 0 && sorted[i].score < sorted[i - 1].score) rank++;
            b->rank[sorted[i].id] = rank;
        }
    }
    mem_free(sorted);
    return st;
}

static bool before(const struct bpe_entry *a, const struct bpe_entry *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->left < b->left);
}

static enum mil_status heap_push(struct bpe_scratch *s, struct bpe_entry e, struct mil_error *err) {
    if (s->n_heap == s->cap_heap) {
        size_t cap = s->cap_heap ? 2 * s->cap_heap : 64;
        struct bpe_entry *grown = mem_realloc(MEM_TEXT, s->heap, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        s->heap = grown;
        s->cap_heap = cap;
    }
    size_t i = s->n_heap++;
    for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
    return MIL_OK;
}

static struct bpe_entry heap_pop(struct bpe_scratch *s) {
    struct bpe_entry top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap) break;
        if (child + 1 < s->n_heap && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Push the pair (left, its right neighbour) if it can be merged. */
static enum mil_status consider(const struct bpe *b, struct bpe_scratch *s, const char *text,
                                int32_t left, struct mil_error *err) {
    if (left < 0 || s->symbols[left].next < 0) return MIL_OK;
    const struct bpe_symbol *x = &s->symbols[left], *y = &s->symbols[x->next];
    struct bpe_entry e = {.left = left, .n = x->n + y->n};
    if (b->rule == BPE_MERGES) {
        const struct merge *m = merges_find(&b->merges, x->id, y->id);
        if (!m) return MIL_OK;
        e.rank = m->rank;
        e.id = m->id;
    } else {
        e.id = vocab_find(&b->vocab, text + x->at, e.n);
        if (e.id < 0) return MIL_OK;
        e.rank = b->rank[e.id];
    }
    return heap_push(s, e, err);
}

/* Symbols while they are laid out: an unknown one is held back so that it can be fused. */
struct layout {
    const struct bpe *b;
    struct bpe_scratch *s;
    size_t n;
    uint32_t unk_at, unk_n;
};

static void lay(struct layout *l, uint32_t at, uint32_t n, int32_t id) {
    int32_t i = (int32_t)l->n++;
    l->s->symbols[i] = (struct bpe_symbol){at, n, id, i - 1, i + 1};
}

static void lay_unknown(struct layout *l) {
    if (l->unk_n) lay(l, l->unk_at, l->unk_n, l->b->unk);
    l->unk_n = 0;
}

static bool has_bytes(const struct bpe *b, const char *text, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (b->byte_ids[(unsigned char)text[i]] < 0) return false;
    return true;
}

/* A symbol without a piece: its bytes, the unknown token, or nothing.  Under BPE_SCORES it stays a
 * symbol: it may yet be merged with its neighbours, and is resolved at the end. */
static void lay_missing(struct layout *l, const char *text, uint32_t at, uint32_t n) {
    if (l->b->rule == BPE_SCORES) {
        lay(l, at, n, -1);
    } else if (l->b->byte_fallback && has_bytes(l->b, text + at, n)) {
        lay_unknown(l); /* in text order; the reference puts it after the bytes here */
        for (uint32_t i = 0; i < n; i++)
            lay(l, at + i, 1, l->b->byte_ids[(unsigned char)text[at + i]]);
    } else if (l->b->unk >= 0) {
        if (l->unk_n && !l->b->fuse_unk) lay_unknown(l);
        if (!l->unk_n) l->unk_at = at;
        l->unk_n += n;
    }
}

static enum mil_status lay_symbols(const struct bpe *b, struct bpe_scratch *s, const char *text,
                                   size_t n, size_t *count, struct mil_error *err) {
    if (n > s->cap_symbols) {
        struct bpe_symbol *grown = mem_realloc(MEM_TEXT, s->symbols, n, sizeof *grown);
        if (!grown) return error_nomem(err, n * sizeof *grown);
        s->symbols = grown;
        s->cap_symbols = n;
    }
    struct layout l = {.b = b, .s = s};
    for (uint32_t at = 0; at < n;) {
        uint32_t codepoint;
        uint32_t len = b->byte_symbols ? 1 : (uint32_t)utf8_decode(text + at, n - at, &codepoint);
        DCHECK(len > 0);
        int32_t id = b->byte_symbols ? b->byte_ids[(unsigned char)text[at]]
                                     : vocab_find(&b->vocab, text + at, len);
        if (id >= 0) {
            lay_unknown(&l);
            lay(&l, at, len, id);
        } else {
            lay_missing(&l, text, at, len);
        }
        at += len;
    }
    lay_unknown(&l);
    if (l.n) s->symbols[l.n - 1].next = -1;
    *count = l.n;
    return MIL_OK;
}

static enum mil_status merge_all(const struct bpe *b, struct bpe_scratch *s, const char *text,
                                 size_t count, struct mil_error *err) {
    s->n_heap = 0;
    for (size_t i = 0; i + 1 < count; i++) TRY(consider(b, s, text, (int32_t)i, err));
    while (s->n_heap) {
        struct bpe_entry e = heap_pop(s);
        struct bpe_symbol *x = &s->symbols[e.left];
        if (x->n == 0 || x->next < 0) continue;
        struct bpe_symbol *y = &s->symbols[x->next];
        if (x->n + y->n != e.n) continue;
        x->n = e.n;
        x->id = e.id;
        x->next = y->next;
        if (y->next >= 0) s->symbols[y->next].prev = e.left;
        y->n = 0;
        TRY(consider(b, s, text, x->prev, err));
        TRY(consider(b, s, text, e.left, err));
    }
    return MIL_OK;
}

/* The symbols that are left, as tokens that start at bytes of the stretch; SentencePiece resolves
 * unknown ones only here. */
static enum mil_status emit(const struct bpe *b, const struct bpe_scratch *s, const char *text,
                            size_t count, struct tokens *out, struct mil_error *err) {
    bool after_unknown = false;
    for (int32_t i = count ? 0 : -1; i >= 0; i = s->symbols[i].next) {
        const struct bpe_symbol *x = &s->symbols[i];
        bool unknown = x->id < 0;
        if (!unknown) {
            TRY(tokens_add(out, x->id, x->at, err));
        } else if (b->byte_fallback && has_bytes(b, text + x->at, x->n)) {
            unknown = false;
            for (uint32_t k = 0; k < x->n; k++)
                TRY(tokens_add(out, b->byte_ids[(unsigned char)text[x->at + k]], x->at + k, err));
        } else if (b->unk >= 0 && !(after_unknown && b->fuse_unk)) {
            TRY(tokens_add(out, b->unk, x->at, err));
        }
        after_unknown = unknown;
    }
    return MIL_OK;
}

static enum mil_status encode(const struct bpe *b, struct bpe_scratch *s, const char *text,
                              size_t n, struct tokens *out, struct mil_error *err) {
    if (b->ignore_merges) {
        int32_t id = vocab_find(&b->vocab, text, n);
        if (id >= 0) return tokens_add(out, id, 0, err);
    }
    size_t count = 0;
    TRY(lay_symbols(b, s, text, n, &count, err));
    TRY(merge_all(b, s, text, count, err));
    return emit(b, s, text, count, out, err);
}

/* ---- stretches seen before ---- */

/* The place of a stretch whose bytes, zero-padded, are key. */
static struct bpe_word *word_place(struct bpe_scratch *s, const char key[WORD_BYTES]) {
    return &s->words[text_hash(key, WORD_BYTES) % WORDS];
}

static enum mil_status repeat(const struct bpe_word *w, struct tokens *out, struct mil_error *err) {
    for (size_t i = 0; i < w->count; i++) TRY(tokens_add(out, w->ids[i], w->starts[i], err));
    return MIL_OK;
}

static void remember(struct bpe_word *w, const char key[WORD_BYTES], size_t n,
                     const struct tokens *out, size_t first) {
    size_t count = out->n - first;
    if (count > WORD_TOKENS) return;
    memcpy(w->text, key, WORD_BYTES);
    w->n = (uint8_t)n;
    w->count = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        w->ids[i] = out->ids[first + i];
        w->starts[i] = (uint8_t)out->starts[first + i];
    }
}

static enum mil_status encode_short(const struct bpe *b, struct bpe_scratch *s, const char *text,
                                    size_t n, struct tokens *out, struct mil_error *err) {
    char key[WORD_BYTES] = {0};
    memcpy(key, text, n);
    struct bpe_word *w = word_place(s, key);
    if (w->n == n && memcmp(w->text, key, WORD_BYTES) == 0) return repeat(w, out, err);
    size_t first = out->n;
    TRY(encode(b, s, text, n, out, err));
    remember(w, key, n, out, first);
    return MIL_OK;
}

enum mil_status bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *text, size_t n,
                           const int64_t *map, int64_t base, struct tokens *out,
                           struct mil_error *err) {
    REQUIRE(n <= INT32_MAX);
    if (n == 0) return MIL_OK;
    size_t first = out->n;
    if (s->words && n <= WORD_BYTES)
        TRY(encode_short(b, s, text, n, out, err));
    else
        TRY(encode(b, s, text, n, out, err));
    for (size_t i = first; i < out->n; i++)
        out->starts[i] = map ? map[out->starts[i]] : base + out->starts[i];
    return MIL_OK;
}
