/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_tables.c - see tokenizer_tables.h.  A file of 9 MB holds 128,000 pieces and 280,000
 * merges.  Places of the merges are found in one pass; each is then taken apart and looked up by
 * itself (three lookups, most of them far apart in memory), on all threads, and put into the table in
 * the file's order. */
#include "text/tokenizer_tables.h"

#include <string.h>

#include "core/mem.h"
#include "core/threads.h"
#include "text/tokenizer_steps.h"

/* ---- where the tables are ---- */

/* A member whose value is a table: note it, and put empty brackets into rest. *from: up to where the
 * text is in rest. */
static bool cut_value(struct json_pull *p, struct json_pull *table, size_t *from,
                      struct str *rest) {
    size_t begin = p->at;
    if (!pull_skip(p)) return false;
    *table = (struct json_pull){p->text + begin, p->at - begin, 0};
    str_addn(rest, p->text + *from, begin - *from);
    str_addn(rest, p->text[begin] == '{' ? "{}" : "[]", 2);
    *from = p->at;
    return true;
}

static bool is_key(const struct json_string *key, const char *name) {
    return key->n == strlen(name) && memcmp(key->data, name, key->n) == 0;
}

/* The members of an object: of the file (out->vocab and so on are in its `model`), or of `model`.
 * A second table of a name is left where it is. */
static bool find_tables(struct json_pull *p, bool in_model, struct tokenizer_tables *out,
                        size_t *from, struct str *rest, struct str *spare) {
    struct json_string key;
    if (!pull_byte(p, '{')) return false;
    if (pull_byte(p, '}')) return true;
    do {
        if (!pull_string(p, spare, &key) || !pull_byte(p, ':')) return false;
        int first = pull_peek(p);
        bool done;
        if (!in_model && first == '{' && is_key(&key, "model"))
            done = find_tables(p, true, out, from, rest, spare);
        else if (in_model && first == '{' && !out->vocab.text && is_key(&key, "vocab"))
            done = cut_value(p, &out->vocab, from, rest);
        else if (in_model && first == '[' && !out->merges.text && is_key(&key, "merges"))
            done = cut_value(p, &out->merges, from, rest);
        else
            done = pull_skip(p);
        if (!done) return false;
    } while (pull_byte(p, ','));
    return pull_byte(p, '}');
}

enum mil_status tokenizer_cut_tables(const char *text, size_t n, struct tokenizer_tables *out,
                                     struct str *rest, struct mil_error *err) {
    struct json_pull p = {text, n, 0};
    struct str spare = {0};
    size_t from = 0, valid = utf8_valid_prefix(text, n);
    if (valid < n)
        return error_set_at(err, MIL_INPUT, (int64_t)valid, "invalid UTF-8 at byte %zu", valid);
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) p.at = 3;
    find_tables(&p, false, out, &from, rest,
                &spare); /* broken text stays in rest and fails there */
    str_addn(rest, text + from, n - from);
    bool failed = spare.failed;
    str_release(&spare);
    return failed ? error_nomem(err, 0) : str_status(rest, err);
}

/* ---- the vocabulary ---- */

static enum mil_status malformed(const char *table, const struct json_pull *p,
                                 struct mil_error *err) {
    return error_set(err, MIL_INPUT, "model.%s: malformed at its byte %zu", table, p->at);
}

struct vocab_reader {
    struct tokenizer *t;
    struct str spare, bytes;
    struct vocab odd; /* keys that no merge can reach, to find one that is given twice */
};

static enum mil_status read_piece(struct vocab_reader *r, struct json_pull *p,
                                  struct mil_error *err) {
    struct json_string key;
    int64_t id;
    if (!pull_string(p, &r->spare, &key) || !pull_byte(p, ':')) return malformed("vocab", p, err);
    if (!pull_integer(p, &id))
        return error_set(err, MIL_INPUT, "model.vocab: the id of '%.*s' is no integer",
                         (int)(key.n < 60 ? key.n : 60), key.data);
    str_reset(&r->bytes);
    /* A piece outside the byte alphabet can only be an added token: merging cannot reach it. */
    bool byte_level = r->t->bpe.byte_symbols;
    bool mapped = byte_level && bytelevel_unmap(key.data, key.n, &r->bytes);
    if (byte_level && !mapped) TRY(vocab_put(&r->odd, r->odd.n, key.data, key.n, PIECE_KEY, err));
    TRY(str_status(&r->spare, err));
    TRY(str_status(&r->bytes, err));
    return vocab_put(&r->t->bpe.vocab, id, mapped ? str_c(&r->bytes) : key.data,
                     mapped ? r->bytes.len : key.n, mapped || !byte_level ? PIECE_KEY : PIECE_RAW,
                     err);
}

static enum mil_status read_pieces(struct vocab_reader *r, struct json_pull *p,
                                   struct mil_error *err) {
    if (!pull_byte(p, '{')) return malformed("vocab", p, err);
    if (!pull_byte(p, '}')) {
        do TRY(read_piece(r, p, err));
        while (pull_byte(p, ','));
        if (!pull_byte(p, '}')) return malformed("vocab", p, err);
    }
    if (p->at != p->n) return malformed("vocab", p, err);
    struct vocab *v = &r->t->bpe.vocab;
    TRY(vocab_index(v, err));
    TRY(vocab_index(&r->odd, err));
    if (!v->repeats && !r->odd.repeats) return MIL_OK;
    return error_set(err, MIL_INPUT, "model.vocab: a piece is given twice");
}

enum mil_status tokenizer_read_vocab(const struct tokenizer_tables *tables, struct tokenizer *t,
                                     struct mil_error *err) {
    if (!tables->vocab.text) return error_set(err, MIL_INPUT, "model.vocab is not an object");
    struct vocab_reader r = {.t = t};
    struct json_pull p = tables->vocab;
    enum mil_status st = read_pieces(&r, &p, err);
    str_release(&r.spare);
    str_release(&r.bytes);
    vocab_release(&r.odd);
    return st;
}

/* ---- merges ---- */

static int32_t find_half(const struct tokenizer *t, const char *half, size_t n,
                         struct str *joined) {
    size_t before = joined->len;
    if (!t->bpe.byte_symbols)
        str_addn(joined, half, n);
    else if (!bytelevel_unmap(half, n, joined))
        return -1;
    if (joined->failed) return -1;
    return vocab_find(&t->bpe.vocab, str_c(joined) + before, joined->len - before);
}

/* What a merge is about; id < 0: a part or the result is no piece. */
struct merge_ids {
    int32_t left, right, id;
};

/* The id of a merge's result, which in files made by a trainer is the last merge's or the one behind
 * it: a look there saves a lookup.  Only where no two keys are equal. */
static int32_t find_result(const struct vocab *v, const struct str *joined, int32_t last) {
    for (int32_t id = last < 0 ? 0 : last; !v->repeats && id < v->n && id <= last + 1; id++) {
        const struct piece *p = &v->pieces[id];
        if ((p->flags & PIECE_KEY) && p->n == joined->len &&
            memcmp(vocab_bytes(v, id), str_c(joined), p->n) == 0)
            return id;
    }
    return vocab_find(v, str_c(joined), joined->len);
}

static struct merge_ids find_merge(const struct tokenizer *t, const struct json_string half[2],
                                   int32_t last, struct str *joined) {
    struct merge_ids m = {-1, -1, -1};
    str_reset(joined);
    m.left = find_half(t, half[0].data, half[0].n, joined);
    if (m.left >= 0) m.right = find_half(t, half[1].data, half[1].n, joined);
    if (m.right >= 0) m.id = find_result(&t->bpe.vocab, joined, last);
    return m;
}

static enum mil_status refuse_merge(const struct json_string half[2], int64_t rank,
                                    struct mil_error *err) {
    return error_set(err, MIL_INPUT,
                     "merge %lld ('%.*s' with '%.*s') has a part or a result that is not in the "
                     "vocabulary",
                     (long long)rank, (int)(half[0].n < 60 ? half[0].n : 60), half[0].data,
                     (int)(half[1].n < 60 ? half[1].n : 60), half[1].data);
}

enum mil_status tokenizer_put_merge(struct tokenizer *t, const char *half[2], const size_t n[2],
                                    int32_t rank, struct str *joined, struct mil_error *err) {
    const struct json_string halves[2] = {{half[0], n[0]}, {half[1], n[1]}};
    struct merge_ids m = find_merge(t, halves, -1, joined);
    TRY(str_status(joined, err));
    if (m.id < 0) return refuse_merge(halves, rank, err);
    merges_put(&t->bpe.merges, m.left, m.right, (struct merge){rank, m.id});
    return MIL_OK;
}

/* One merge of the file, by the place of its text; then what it is about. */
struct merge_entry {
    size_t at;
    struct merge_ids ids;
    bool sound; /* two strings */
};
struct merge_reader {
    struct tokenizer *t;
    struct json_pull text;
    struct merge_entry *entries;
    size_t n, cap;
    _Atomic bool failed; /* no memory */
};

/* The two halves of a merge: "a b" or ["a", "b"]. */
static bool merge_halves(struct json_pull *p, struct str spare[2], struct json_string half[2]) {
    if (pull_byte(p, '['))
        return pull_string(p, &spare[0], &half[0]) && pull_byte(p, ',') &&
               pull_string(p, &spare[1], &half[1]) && pull_byte(p, ']');
    struct json_string both;
    if (!pull_string(p, &spare[0], &both)) return false;
    const char *space = memchr(both.data, ' ', both.n), *end = both.data + both.n;
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1))) return false;
    half[0] = (struct json_string){both.data, (size_t)(space - both.data)};
    half[1] = (struct json_string){space + 1, (size_t)(end - space - 1)};
    return true;
}

static void find_merges(void *ctx, int64_t begin, int64_t end) {
    struct merge_reader *r = ctx;
    struct str spare[2] = {{0}}, joined = {0};
    int32_t last = -1;
    for (int64_t i = begin; i < end; i++) {
        struct json_pull p = r->text;
        struct json_string half[2];
        p.at = r->entries[i].at;
        r->entries[i].sound = merge_halves(&p, spare, half);
        if (!r->entries[i].sound) continue;
        r->entries[i].ids = find_merge(r->t, half, last, &joined);
        last = r->entries[i].ids.id;
    }
    if (spare[0].failed || spare[1].failed || joined.failed) r->failed = true;
    str_release(&spare[0]);
    str_release(&spare[1]);
    str_release(&joined);
}

static enum mil_status add_entry(struct merge_reader *r, size_t at, struct mil_error *err) {
    if (r->n == INT32_MAX / 4)
        return error_set(err, MIL_INPUT, "model.merges has more than %zu entries", r->n);
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 1 << 14;
        struct merge_entry *grown = mem_realloc(MEM_TEXT, r->entries, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        r->entries = grown;
        r->cap = cap;
    }
    r->entries[r->n++] = (struct merge_entry){.at = at};
    return MIL_OK;
}

static enum mil_status refuse_shape(size_t i, struct mil_error *err) {
    return error_set(err, MIL_INPUT, "model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]", i);
}

static enum mil_status find_entries(struct merge_reader *r, struct mil_error *err) {
    struct json_pull *p = &r->text;
    if (!pull_byte(p, '[')) return malformed("merges", p, err);
    if (!pull_byte(p, ']')) {
        do {
            int first = pull_peek(p);
            if (first != '"' && first != '[') return refuse_shape(r->n, err);
            TRY(add_entry(r, p->at, err));
            if (!pull_skip(p)) return malformed("merges", p, err);
        } while (pull_byte(p, ','));
        if (!pull_byte(p, ']')) return malformed("merges", p, err);
    }
    return p->at == p->n ? MIL_OK : malformed("merges", p, err);
}

static enum mil_status put_entry(struct merge_reader *r, size_t i, struct mil_error *err) {
    const struct merge_entry *e = &r->entries[i];
    if (!e->sound) return refuse_shape(i, err);
    if (e->ids.id >= 0) {
        merges_put(&r->t->bpe.merges, e->ids.left, e->ids.right,
                   (struct merge){(int32_t)i, e->ids.id});
        return MIL_OK;
    }
    struct json_pull p = r->text;
    struct str spare[2] = {{0}};
    struct json_string half[2] = {{"", 0}, {"", 0}};
    p.at = e->at;
    merge_halves(&p, spare, half);
    enum mil_status st = refuse_merge(half, (int64_t)i, err);
    str_release(&spare[0]);
    str_release(&spare[1]);
    return st;
}

enum mil_status tokenizer_read_merges(const struct tokenizer_tables *tables, struct tokenizer *t,
                                      struct mil_error *err) {
    if (!tables->merges.text) return error_set(err, MIL_INPUT, "model.merges is not an array");
    struct merge_reader r = {.t = t, .text = tables->merges};
    enum mil_status st = find_entries(&r, err);
    if (st == MIL_OK) parallel_for((int64_t)r.n, 4096, find_merges, &r);
    if (st == MIL_OK && r.failed) st = error_nomem(err, 0);
    if (st == MIL_OK) st = merges_reserve(&t->bpe.merges, r.n, err);
    for (size_t i = 0; st == MIL_OK && i < r.n; i++) st = put_entry(&r, i, err);
    mem_free(r.entries);
    return st;
}
