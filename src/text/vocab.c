/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - see vocab.h.  Two hash tables with open addressing and linear probing, at a load of at
 * most one half (pieces) or two thirds (merges); both are filled once while loading and never
 * shrink.  A crafted file can make its own loading slow, nothing else. */
#include "text/vocab.h"

#include <string.h>

#include "core/mem.h"

#define MERGE_NONE UINT64_MAX /* no pair: ids are not negative */

static uint64_t mix(uint64_t h) {
    h *= 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
}

/* Eight bytes a round; the last round's are zero-padded, and the length sets "a" apart from "a\0".
 */
uint64_t text_hash(const char *bytes, size_t n) {
    uint64_t h = mix(n + 1), word;
    for (; n >= sizeof word; n -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        h = mix(h ^ word);
    }
    word = 0;
    for (size_t i = 0; i < n; i++) word |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    return mix(mix(h ^ word));
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32) | (uint32_t)right;
}

/* The power of two that holds n entries at a load of at most num / den. */
static size_t table_size(size_t n, size_t num, size_t den) {
    size_t size = 16;
    while (size / den * num < n) size *= 2;
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
        return error_set(err, MIL_INPUT, "token id %lld is given twice ('%.60s' and '%.*s')",
                         (long long)id, vocab_bytes(v, (int32_t)id), (int)(n < 60 ? n : 60), bytes);
    p->at = v->bytes.len;
    p->n = (uint32_t)n;
    p->flags = (uint8_t)(flags | PIECE_PRESENT);
    str_addn(&v->bytes, bytes, n);
    str_addc(&v->bytes, 0); /* so that a piece can stand in a message */
    if (id >= v->n) v->n = (int32_t)id + 1;
    return str_status(&v->bytes, err);
}

/* The slot of a key, or the empty one where it belongs. */
static size_t find_slot(const struct vocab *v, const char *bytes, size_t n, uint64_t hash) {
    size_t i = hash & (v->n_slots - 1);
    for (; v->slots[i].id >= 0; i = (i + 1) & (v->n_slots - 1)) {
        if (v->slots[i].tag != (uint32_t)(hash >> 32)) continue;
        const struct piece *p = &v->pieces[v->slots[i].id];
        if (p->n == n && memcmp(str_c(&v->bytes) + p->at, bytes, n) == 0) break;
    }
    return i;
}

enum mil_status vocab_index(struct vocab *v, struct mil_error *err) {
    v->n_slots = table_size((size_t)v->n, 1, 2);
    v->slots = mem_alloc(MEM_TEXT, v->n_slots, sizeof *v->slots);
    if (!v->slots) return error_nomem(err, v->n_slots * sizeof *v->slots);
    memset(v->slots, 0xff, v->n_slots * sizeof *v->slots);
    for (int32_t id = 0; id < v->n; id++) {
        const struct piece *p = &v->pieces[id];
        if (!(p->flags & PIECE_KEY)) continue;
        uint64_t hash = text_hash(vocab_bytes(v, id), p->n);
        struct vocab_slot *slot = &v->slots[find_slot(v, vocab_bytes(v, id), p->n, hash)];
        if (slot->id < 0)
            *slot = (struct vocab_slot){(uint32_t)(hash >> 32), id};
        else
            v->repeats = true;
        if (p->n > v->longest_key) v->longest_key = p->n;
    }
    return MIL_OK;
}

int32_t vocab_find(const struct vocab *v, const char *bytes, size_t n) {
    if (n > v->longest_key || v->n_slots == 0) return -1;
    return v->slots[find_slot(v, bytes, n, text_hash(bytes, n))].id;
}

bool vocab_has(const struct vocab *v, int64_t id) {
    return id >= 0 && id < v->n && (v->pieces[id].flags & PIECE_PRESENT);
}

void merges_release(struct merges *m) {
    mem_free(m->keys);
    mem_free(m->values);
    memset(m, 0, sizeof *m);
}

enum mil_status merges_reserve(struct merges *m, size_t n, struct mil_error *err) {
    m->n_slots = table_size(n, 2, 3);
    m->keys = mem_alloc(MEM_TEXT, m->n_slots, sizeof *m->keys);
    m->values = mem_alloc(MEM_TEXT, m->n_slots, sizeof *m->values);
    if (!m->keys || !m->values) return error_nomem(err, m->n_slots * sizeof *m->keys);
    memset(m->keys, 0xff, m->n_slots * sizeof *m->keys);
    return MIL_OK;
}

static size_t merge_slot(const struct merges *m, uint64_t key) {
    size_t i = mix(mix(key)) & (m->n_slots - 1);
    while (m->keys[i] != key && m->keys[i] != MERGE_NONE) i = (i + 1) & (m->n_slots - 1);
    return i;
}

void merges_put(struct merges *m, int32_t left, int32_t right, struct merge merge) {
    uint64_t key = pair_key(left, right);
    size_t i = merge_slot(m, key);
    if (m->keys[i] == MERGE_NONE) {
        REQUIRE(m->n < m->n_slots - 1);
        m->n++;
    }
    m->keys[i] = key;
    m->values[i] = merge;
}

const struct merge *merges_find(const struct merges *m, int32_t left, int32_t right) {
    if (m->n == 0 || left < 0 || right < 0) return NULL;
    size_t i = merge_slot(m, pair_key(left, right));
    return m->keys[i] == MERGE_NONE ? NULL : &m->values[i];
}
