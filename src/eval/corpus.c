/* SPDX-License-Identifier: Apache-2.0 */
/* corpus.c - texts to tokens. The whole of a text is tokenised at once: cutting it first would make
 * other tokens at the seams. */
#include "eval/corpus.h"

#include <string.h>

#include "core/mem.h"
#include "eval/rows.h"
#include "io/file.h"

#define TEXT_MAX_BYTES ((size_t)1 << 30)

static enum mil_status reserve(struct corpus *c, size_t tokens, struct mil_error *err) {
    int64_t need = c->n_tokens + (int64_t)tokens;
    if (need > c->cap_tokens) {
        int64_t cap = need > 2 * c->cap_tokens ? need : 2 * c->cap_tokens;
        int32_t *ids = mem_realloc(MEM_TEXT, c->ids, (size_t)cap, sizeof *ids);
        if (ids) c->ids = ids;
        int32_t *bytes = mem_realloc(MEM_TEXT, c->bytes, (size_t)cap, sizeof *bytes);
        if (bytes) c->bytes = bytes;
        if (!ids || !bytes) return error_nomem(err, (uint64_t)cap * sizeof *ids);
        c->cap_tokens = cap;
    }
    if (c->n_docs + 2 > c->cap_docs) {
        int64_t cap = 2 * c->cap_docs + 16;
        int64_t *begin = mem_realloc(MEM_TEXT, c->begin, (size_t)cap, sizeof *begin);
        if (!begin) return error_nomem(err, (uint64_t)cap * sizeof *begin);
        c->begin = begin;
        c->cap_docs = cap;
    }
    return MIL_OK;
}

static enum mil_status add_document(struct corpus *c, const struct tokenizer *tokenizer,
                                    const char *text, size_t n, struct mil_error *err) {
    struct tokens t = {0};
    enum mil_status st;
    TRY_GOTO(tokenizer_encode(tokenizer, text, n, TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, &t,
                              err));
    TRY_GOTO(reserve(c, t.n, err));
    for (size_t i = 0; i < t.n; i++) {
        int64_t next = i + 1 < t.n ? t.starts[i + 1] : (int64_t)n;
        c->ids[c->n_tokens + (int64_t)i] = t.ids[i];
        c->bytes[c->n_tokens + (int64_t)i] = (int32_t)(next - t.starts[i]);
    }
    c->begin[c->n_docs++] = c->n_tokens;
    c->n_tokens += (int64_t)t.n;
    c->begin[c->n_docs] = c->n_tokens;
fail:
    tokens_release(&t);
    return st;
}

struct reader {
    struct corpus *corpus;
    const struct tokenizer *tokenizer;
};

static enum mil_status add_row(void *ctx, const json_t *row, int64_t number,
                               struct mil_error *err) {
    const struct reader *r = ctx;
    const char *text = NULL;
    (void)number;
    TRY(json_member_str(row, "the row", "text", true, &text, err));
    return add_document(r->corpus, r->tokenizer, text, strlen(text), err);
}

static enum mil_status load_text(const char *path, const struct tokenizer *tokenizer,
                                 struct corpus *c, struct mil_error *err) {
    struct str text = {0};
    enum mil_status st = file_read(path, TEXT_MAX_BYTES, &text, err);
    if (st == MIL_OK) {
        st = add_document(c, tokenizer, str_c(&text), text.len, err);
        if (st != MIL_OK) error_prefix(err, "%s: ", path);
    }
    str_release(&text);
    return st;
}

enum mil_status corpus_load(const char *path, const struct tokenizer *tokenizer, struct corpus *out,
                            struct mil_error *err) {
    memset(out, 0, sizeof *out);
    bool rows = str_ends(path, ".json") || str_ends(path, ".jsonl");
    struct reader reader = {out, tokenizer};
    enum mil_status st =
        rows ? rows_each(path, 0, add_row, &reader, err) : load_text(path, tokenizer, out, err);
    if (st != MIL_OK) corpus_release(out);
    return st;
}

void corpus_release(struct corpus *c) {
    mem_free(c->ids);
    mem_free(c->bytes);
    mem_free(c->begin);
    memset(c, 0, sizeof *c);
}
