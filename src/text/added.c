/* SPDX-License-Identifier: Apache-2.0 */
/* added.c - see added.h.  At each place whose byte can begin a token, the existing lengths are
 * tried from the longest down by one hash lookup each. */
#include "text/added.h"

#include <string.h>
#include <utf8proc.h>

#include "core/mem.h"
#include "text/vocab.h"

void added_release(struct added *a) {
    str_release(&a->bytes);
    mem_free(a->tokens);
    mem_free(a->slots);
    memset(a, 0, sizeof *a);
}

enum mil_status added_put(struct added *a, struct added_token token, const char *content, size_t n,
                          struct mil_error *err) {
    if (n == 0 || n > ADDED_MAX_LENGTH)
        return error_set(err, MIL_INPUT, "added token %d has %zu bytes (1 to %d can be used)",
                         (int)token.id, n, ADDED_MAX_LENGTH);
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        struct added_token *grown = mem_realloc(MEM_TEXT, a->tokens, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        a->tokens = grown;
        a->cap = cap;
    }
    token.at = a->bytes.len;
    token.n = (uint32_t)n;
    str_addn(&a->bytes, content, n);
    a->tokens[a->n++] = token;
    return str_status(&a->bytes, err);
}

static size_t find_slot(const struct added *a, const char *content, size_t n) {
    size_t i = text_hash(content, n) & (a->n_slots - 1);
    for (; a->slots[i] >= 0; i = (i + 1) & (a->n_slots - 1)) {
        const struct added_token *t = &a->tokens[a->slots[i]];
        if (t->n == n && memcmp(str_c(&a->bytes) + t->at, content, n) == 0) break;
    }
    return i;
}

enum mil_status added_index(struct added *a, struct mil_error *err) {
    a->n_slots = 16;
    while (a->n_slots < 2 * a->n) a->n_slots *= 2;
    a->slots = mem_alloc(MEM_TEXT, a->n_slots, sizeof *a->slots);
    if (!a->slots) return error_nomem(err, a->n_slots * sizeof *a->slots);
    for (size_t i = 0; i < a->n_slots; i++) a->slots[i] = -1;
    for (size_t k = 0; k < a->n; k++) {
        const struct added_token *t = &a->tokens[k];
        const char *content = str_c(&a->bytes) + t->at;
        size_t slot = find_slot(a, content, t->n);
        if (a->slots[slot] < 0) a->slots[slot] = (int32_t)k;
        a->first[(unsigned char)content[0]] = true;
        a->lengths[t->n / 8] |= (uint8_t)(1u << (t->n % 8));
        if (t->n > a->longest) a->longest = t->n;
    }
    return MIL_OK;
}

const struct added_token *added_find(const struct added *a, const char *content, size_t n) {
    if (a->n == 0 || n > a->longest) return NULL;
    int32_t k = a->slots[find_slot(a, content, n)];
    return k >= 0 ? &a->tokens[k] : NULL;
}

/* The longest token that begins at text[0, n). */
static const struct added_token *longest_at(const struct added *a, const char *text, size_t n) {
    if (!a->first[(unsigned char)text[0]]) return NULL;
    for (size_t len = n < a->longest ? n : a->longest; len > 0; len--) {
        if (!(a->lengths[len / 8] >> (len % 8) & 1)) continue;
        const struct added_token *t = added_find(a, text, len);
        if (t) return t;
    }
    return NULL;
}

/* The character that ends at text + at (at > 0), and where it begins. */
static uint32_t char_before(const char *text, size_t at, size_t *begin) {
    uint32_t c = 0;
    *begin = at - 1;
    while (*begin > 0 && ((unsigned char)text[*begin] & 0xc0) == 0x80) --*begin;
    utf8_decode(text + *begin, at - *begin, &c);
    return c;
}

static bool is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
    }
}

/* Unicode White_Space. */
static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static bool stands_alone(const char *text, size_t n, size_t begin, size_t end) {
    size_t at;
    uint32_t c;
    if (begin > 0 && is_word(char_before(text, begin, &at))) return false;
    return !(end < n && utf8_decode(text + end, n - end, &c) && is_word(c));
}

/* Take in white space on the sides that the token strips; never before `from`. */
static void strip(const struct added_search *s, const struct added_token *t, size_t from,
                  size_t *begin, size_t *end) {
    size_t at;
    while (t->lstrip && *begin > from && is_space(char_before(s->text, *begin, &at))) *begin = at;
    uint32_t c;
    size_t len;
    while (t->rstrip && *end < s->n && (len = utf8_decode(s->text + *end, s->n - *end, &c)) > 0 &&
           is_space(c))
        *end += len;
}

const struct added_token *added_next(struct added_search *s, size_t *begin, size_t *end) {
    size_t from = s->at;
    if (s->added->n == 0) return NULL;
    for (size_t i = from; i < s->n; i++) {
        const struct added_token *t = longest_at(s->added, s->text + i, s->n - i);
        if (!t) continue;
        size_t stop = i + t->n;
        if (t->special && !(s->allows_special && s->allows_special(s->ctx, i, stop))) continue;
        if (t->single_word && !stands_alone(s->text, s->n, i, stop)) {
            i = stop - 1;
            continue;
        }
        *begin = i;
        *end = stop;
        strip(s, t, from, begin, end);
        s->at = *end;
        return t;
    }
    return NULL;
}
