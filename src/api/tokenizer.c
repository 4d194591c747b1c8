/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c - the public tokenizer: text/tokenizer.h behind an opaque handle. */
#include "milora/tokenizer.h"

#include "core/mem.h"
#include "model/checkpoint.h"
#include "text/tokenizer.h"

struct mil_tokenizer {
    struct tokenizer *tokenizer;
};

enum mil_status mil_tokenizer_open(const char *path, mil_tokenizer **out, struct mil_error *err) {
    *out = NULL;
    mil_tokenizer *t = mem_calloc(MEM_TEXT, 1, sizeof *t);
    if (!t) return error_nomem(err, sizeof *t);
    enum mil_status st = tokenizer_open(path, &t->tokenizer, err);
    if (st != MIL_OK) {
        mem_free(t);
        return st;
    }
    *out = t;
    return MIL_OK;
}

void mil_tokenizer_free(mil_tokenizer **tokenizer) {
    if (!*tokenizer) return;
    tokenizer_free(&(*tokenizer)->tokenizer);
    mem_free(*tokenizer);
    *tokenizer = NULL;
}

enum mil_status mil_encode(const mil_tokenizer *tokenizer, const char *text, size_t n,
                           unsigned flags, struct mil_ids *out, struct mil_error *err) {
    unsigned inner = (flags & MIL_ADD_SPECIAL ? TOKENIZE_ADD_SPECIAL : 0u) |
                     (flags & MIL_PARSE_SPECIAL ? TOKENIZE_PARSE_SPECIAL : 0u);
    struct tokens tokens = {0};
    enum mil_status st = tokenizer_encode(tokenizer->tokenizer, text, n, inner, &tokens, err);
    for (size_t i = 0; st == MIL_OK && i < tokens.n; i++) st = mil_ids_add(out, tokens.ids[i], err);
    tokens_release(&tokens);
    return st;
}

enum mil_status mil_decode(const mil_tokenizer *tokenizer, const int32_t *ids, size_t n,
                           int skip_special, struct mil_text *out, struct mil_error *err) {
    struct str text = {0};
    enum mil_status st =
        tokenizer_decode(tokenizer->tokenizer, ids, n, skip_special != 0, &text, err);
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = mil_text_add(out, str_c(&text), text.len, err);
    str_release(&text);
    return st;
}

int32_t mil_tokenizer_vocab(const mil_tokenizer *tokenizer) {
    return tokenizer_vocab_size(tokenizer->tokenizer);
}

int32_t mil_tokenizer_bos(const mil_tokenizer *tokenizer) {
    return tokenizer_bos(tokenizer->tokenizer);
}

int32_t mil_tokenizer_eos(const mil_tokenizer *tokenizer) {
    return tokenizer_eos(tokenizer->tokenizer);
}

const char *mil_tokenizer_kind(const mil_tokenizer *tokenizer) {
    return tokenizer_kind(tokenizer->tokenizer);
}
