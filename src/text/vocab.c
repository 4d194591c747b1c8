/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - see vocab.h.  Two hash tables with open addressing and linear probing at a load of at
 * most one half; both are filled once while loading and never shrink.  The hash is FNV-1a with a
 * final mixing step: a crafted file can make its own loading slow, nothing else. */
#include "text/vocab.h"

#include <string.h>

#include "core/mem.h"

uint64_t text_hash(const char *bytes, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    h ^= h >> 32;
    return h * 0x9e3779b97f4a7c15u;
}

static uint64_t pair_hash(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32) | (uint32_t)right;
    h *= 0x9e3779b97f4a7c15u;
    return (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u;
}

/* The power of two that keeps n entries below half load. */
static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

void vocab_release(struct vocab *v) {
    str_release(&v->bytes);
    mem_free(v->pieces);
    mem_free(v->slots);
    memset(v, 0, sizeof *v);
}

static enum mil_status grow(struct vocab *v, int32_t need, struct mil_error *err) {
    if (need <= v->cap) return MIL_OK;
    int32_t cap = v->cap ? v->cap : 1024;
    while (cap < need) cap *= 2;
    struct piece *grown = mem_realloc(MEM_TEXT, v->pieces, (size_t)cap, sizeof *grown);
    if (!grown) return error_nomem(err, (uint64_t)cap * sizeof *grown);
    memset(grown + v->cap, 0, (size_t)(cap - v->cap) * sizeof *grown);
    v->pieces = grown;
    v->cap = cap;
    return MIL_OK;
}

enum mil_status vocab_put(struct vocab *v, int64_t id, const char *bytes, size_t n, unsigned flags,
                          struct mil_error *err) {
    if (id < 0 || id >= VOCAB_MAX_ID)
        return error_set(err, MIL_INPUT, "token id %lld is outside [0, %lld)", (long long)id,
                         (long long)VOCAB_MAX_ID);
    if (n > UINT32_MAX / 2)
        return error_set(err, MIL_INPUT, "token %lld is too long", (long long)id);
    TRY(grow(v, (int32_t)id + 1, err));
    struct piece *p = &v->pieces[id];
    if (p->flags & PIECE_PRESENT)
        return error_set(err, MIL_INPUT, "token id %lld is given twice ('%.60s' and '%.60s')",
                         (long long)id, vocab_bytes(v, (int32_t)id), bytes);
    p->at = v->bytes.len;
    p->n = (uint32_t)n;
    p->flags = (uint8_t)(flags | PIECE_PRESENT);
    str_addn(&v->bytes, bytes, n);
    str_addc(&v->bytes, 0); /* so that a piece can stand in a message */
    if (id >= v->n) v->n = (int32_t)id + 1;
    return str_status(&v->bytes, err);
}

/* The slot of a key, or the empty one where it belongs. */
static size_t find_slot(const struct vocab *v, const char *bytes, size_t n) {
    size_t i = text_hash(bytes, n) & (v->n_slots - 1);
    for (; v->slots[i] >= 0; i = (i + 1) & (v->n_slots - 1)) {
        const struct piece *p = &v->pieces[v->slots[i]];
        if (p->n == n && memcmp(str_c(&v->bytes) + p->at, bytes, n) == 0) break;
    }
    return i;
}

enum mil_status vocab_index(struct vocab *v, struct mil_error *err) {
    v->n_slots = table_size((size_t)v->n);
    v->slots = mem_alloc(MEM_TEXT, v->n_slots, sizeof *v->slots);
    if (!v->slots) return error_nomem(err, v->n_slots * sizeof *v->slots);
    for (size_t i = 0; i < v->n_slots; i++) v->slots[i] = -1;
    for (int32_t id = 0; id < v->n; id++) {
        const struct piece *p = &v->pieces[id];
        if (!(p->flags & PIECE_KEY)) continue;
        size_t slot = find_slot(v, vocab_bytes(v, id), p->n);
        if (v->slots[slot] < 0) v->slots[slot] = id;
        if (p->n > v->longest_key) v->longest_key = p->n;
    }
    return MIL_OK;
}

int32_t vocab_find(const struct vocab *v, const char *bytes, size_t n) {
    if (n > v->longest_key || v->n_slots == 0) return -1;
    return v->slots[find_slot(v, bytes, n)];
}

bool vocab_has(const struct vocab *v, int64_t id) {
    return id >= 0 && id < v->n && (v->pieces[id].flags & PIECE_PRESENT);
}

void merges_release(struct merges *m) {
    mem_free(m->slots);
    memset(m, 0, sizeof *m);
}

enum mil_status merges_reserve(struct merges *m, size_t n, struct mil_error *err) {
    m->n_slots = table_size(n);
    m->slots = mem_alloc(MEM_TEXT, m->n_slots, sizeof *m->slots);
    if (!m->slots) return error_nomem(err, m->n_slots * sizeof *m->slots);
    for (size_t i = 0; i < m->n_slots; i++) m->slots[i].left = -1;
    return MIL_OK;
}

static size_t merge_slot(const struct merges *m, int32_t left, int32_t right) {
    size_t i = pair_hash(left, right) & (m->n_slots - 1);
    while (m->slots[i].left >= 0 && !(m->slots[i].left == left && m->slots[i].right == right))
        i = (i + 1) & (m->n_slots - 1);
    return i;
}

void merges_put(struct merges *m, struct merge merge) {
    size_t i = merge_slot(m, merge.left, merge.right);
    if (m->slots[i].left < 0) {
        REQUIRE(2 * m->n < m->n_slots);
        m->n++;
    }
    m->slots[i] = merge;
}

const struct merge *merges_find(const struct merges *m, int32_t left, int32_t right) {
    if (m->n == 0 || left < 0 || right < 0) return NULL;
    const struct merge *found = &m->slots[merge_slot(m, left, right)];
    return found->left >= 0 ? found : NULL;
}
