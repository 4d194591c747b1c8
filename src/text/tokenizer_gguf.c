/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_gguf.c - the tokenizer inside a GGUF file: models "gpt2" (byte-level BPE) and "llama"
 * (SentencePiece BPE).  A "gpt2" file names its pre-tokeniser in tokenizer.ggml.pre; the table
 * below holds those that are known, any other is refused by name. */
#include <string.h>

#include "core/mem.h"
#include "text/tokenizer_gguf.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_steps.h"

#define LLAMA3                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct pre_row pre_rows[] = {
    {"gpt-2", {PRETOK_GPT2}, false, false}, {"smollm", {"\\p{N}", PRETOK_GPT2}, false, false},
    {"llama-bpe", {LLAMA3}, true, true},    {"llama-v3", {LLAMA3}, true, true},
    {"llama3", {LLAMA3}, true, true},
};

bool gguf_str_is(struct gguf_str s, const char *text) {
    return s.n == strlen(text) && memcmp(s.data, text, s.n) == 0;
}

enum mil_status gguf_pre_find(const struct gguf_file *f, const struct pre_row **out,
                              struct mil_error *err) {
    struct gguf_str pre = {"default", 7};
    gguf_get_str(f, "tokenizer.ggml.pre", &pre);
    for (size_t i = 0; i < sizeof pre_rows / sizeof *pre_rows; i++)
        if (gguf_str_is(pre, pre_rows[i].name)) {
            *out = &pre_rows[i];
            return MIL_OK;
        }
    return error_set(err, MIL_UNSUPPORTED,
                     "tokenizer.ggml.pre '%.*s' is not supported (gpt-2, smollm and llama-bpe are)",
                     (int)(pre.n < 60 ? pre.n : 60), pre.data);
}

static enum mil_status need_array(const struct gguf_file *f, const char *key, bool strings,
                                  uint64_t n, const struct gguf_kv **out, struct mil_error *err) {
    *out = gguf_find(f, key);
    if (!*out || (*out)->type != GGUF_ARRAY || ((*out)->strings != NULL) != strings ||
        (!strings && (*out)->elem == GGUF_ARRAY))
        return error_set(err, MIL_INPUT, "%s is missing or no array of the right kind", key);
    if (n && (*out)->n != n)
        return error_set(err, MIL_INPUT, "%s has %llu entries, the vocabulary %llu", key,
                         (unsigned long long)(*out)->n, (unsigned long long)n);
    return MIL_OK;
}

static enum mil_status put_token(struct tokenizer *t, int64_t id, struct gguf_str text,
                                 int64_t type, struct mil_error *err) {
    bool control = type == GGUF_CONTROL || type == GGUF_UNKNOWN, user = type == GGUF_USER;
    bool level = t->bpe.byte_symbols;
    struct str bytes = {0};
    bool mapped = level && !control && !user && bytelevel_unmap(text.data, text.n, &bytes);
    /* Merging can make normal and byte pieces; never a control token, whatever its text. */
    bool key = level ? mapped : type == GGUF_NORMAL || type == GGUF_BYTE;
    if (type == GGUF_UNUSED) key = false;
    unsigned flags = (key ? PIECE_KEY : PIECE_RAW) | (control ? PIECE_SPECIAL : 0);
    enum mil_status st = bytes.failed
                             ? str_status(&bytes, err)
                             : vocab_put(&t->bpe.vocab, id, mapped ? str_c(&bytes) : text.data,
                                         mapped ? bytes.len : text.n, flags, err);
    str_release(&bytes);
    if (st != MIL_OK || !(control || user) || text.n == 0) return st;
    struct added_token token = {.id = (int32_t)id, .special = control};
    return added_put(&t->raw, token, text.data, text.n, err);
}

static enum mil_status read_tokens(const struct gguf_file *f, struct tokenizer *t, uint64_t *n,
                                   struct mil_error *err) {
    const struct gguf_kv *tokens, *types = NULL;
    TRY(need_array(f, "tokenizer.ggml.tokens", true, 0, &tokens, err));
    *n = tokens->n;
    if (*n == 0 || *n > (uint64_t)VOCAB_MAX_ID)
        return error_set(err, MIL_INPUT, "tokenizer.ggml.tokens has %llu entries",
                         (unsigned long long)*n);
    TRY(need_array(f, "tokenizer.ggml.token_type", false, *n, &types, err));
    for (uint64_t i = 0; i < *n; i++) {
        struct gguf_str s = tokens->strings[i];
        if (utf8_valid_prefix(s.data, s.n) < s.n)
            return error_set(err, MIL_INPUT, "tokenizer.ggml.tokens[%llu] is no UTF-8",
                             (unsigned long long)i);
        TRY(put_token(t, (int64_t)i, s, gguf_value_i64(types, i), err));
    }
    TRY(vocab_index(&t->bpe.vocab, err));
    tokenizer_find_bytes(t);
    return MIL_OK;
}

static enum mil_status read_merges(const struct gguf_file *f, struct tokenizer *t,
                                   struct mil_error *err) {
    const struct gguf_kv *merges;
    TRY(need_array(f, "tokenizer.ggml.merges", true, 0, &merges, err));
    if (merges->n > INT32_MAX / 4) return error_set(err, MIL_INPUT, "too many merges");
    TRY(merges_reserve(&t->bpe.merges, (size_t)merges->n, err));
    struct str joined = {0};
    enum mil_status st = MIL_OK;
    for (uint64_t i = 0; st == MIL_OK && i < merges->n; i++) {
        struct gguf_str s = merges->strings[i];
        const char *space = s.n ? memchr(s.data + 1, ' ', s.n - 1) : NULL;
        if (!space) {
            st = error_set(err, MIL_INPUT, "tokenizer.ggml.merges[%llu] holds no space",
                           (unsigned long long)i);
            break;
        }
        const char *half[2] = {s.data, space + 1};
        size_t n[2] = {(size_t)(space - s.data), (size_t)(s.data + s.n - space - 1)};
        st = tokenizer_put_merge(t, half, n, (int32_t)i, &joined, err);
    }
    str_release(&joined);
    return st;
}

static enum mil_status read_gpt2(const struct gguf_file *f, struct tokenizer *t, bool *add_bos,
                                 struct mil_error *err) {
    const struct pre_row *pre = NULL;
    uint64_t n;
    TRY(gguf_pre_find(f, &pre, err));
    for (size_t i = 0; i < 3 && pre->regexes[i]; i++)
        TRY(pretok_add_isolated(&t->pretok, pre->regexes[i], err));
    t->bpe.byte_symbols = true;
    t->bpe.ignore_merges = pre->ignore_merges;
    *add_bos = pre->add_bos;
    TRY(read_tokens(f, t, &n, err));
    TRY(read_merges(f, t, err));
    return decoder_add(&t->decoder, DECODE_BYTES, NULL, NULL, NULL, err);
}

static enum mil_status read_llama(const struct gguf_file *f, struct tokenizer *t, bool *add_bos,
                                  struct mil_error *err) {
    uint64_t n;
    const struct gguf_kv *scores;
    *add_bos = true;
    t->bpe.rule = BPE_SCORES;
    t->bpe.byte_fallback = t->bpe.fuse_unk = true;
    TRY(read_tokens(f, t, &n, err));
    TRY(need_array(f, "tokenizer.ggml.scores", false, n, &scores, err));
    float *score = mem_alloc(MEM_TEXT, (size_t)n, sizeof *score);
    if (!score) return error_nomem(err, n * sizeof *score);
    for (uint64_t i = 0; i < n; i++) score[i] = (float)gguf_value_f64(scores, i);
    enum mil_status st = bpe_rank_scores(&t->bpe, score, err);
    mem_free(score);
    if (st != MIL_OK) return st;
    int64_t unk = 0;
    gguf_get_i64(f, "tokenizer.ggml.unknown_token_id", &unk);
    t->bpe.unk = vocab_has(&t->bpe.vocab, unk) ? (int32_t)unk : -1;
    bool prefix = true, collapse = false;
    gguf_get_bool(f, "tokenizer.ggml.add_space_prefix", &prefix);
    gguf_get_bool(f, "tokenizer.ggml.remove_extra_whitespaces", &collapse);
    return tokenizer_use_sentencepiece(t, prefix, collapse, true, err);
}

static enum mil_status read_special(const struct gguf_file *f, struct tokenizer *t, bool add_bos,
                                    struct mil_error *err) {
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.eos_token_id"};
    for (int i = 0; i < 2; i++) {
        int64_t id;
        if (!gguf_get_i64(f, keys[i], &id)) continue;
        if (!vocab_has(&t->bpe.vocab, id))
            return error_set(err, MIL_INPUT, "%s %lld is outside the vocabulary of %d", keys[i],
                             (long long)id, (int)t->bpe.vocab.n);
        *(i ? &t->eos : &t->bos) = (int32_t)id;
    }
    bool add_eos = false;
    gguf_get_bool(f, "tokenizer.ggml.add_bos_token", &add_bos);
    gguf_get_bool(f, "tokenizer.ggml.add_eos_token", &add_eos);
    if (add_bos && t->bos >= 0) TRY(tokenizer_add_affix(t, true, t->bos, err));
    if (add_eos && t->eos >= 0) TRY(tokenizer_add_affix(t, false, t->eos, err));
    struct gguf_str chat;
    if (!gguf_get_str(f, "tokenizer.chat_template", &chat)) return MIL_OK;
    t->chat_template = mem_strndup(MEM_TEXT, chat.data, chat.n);
    return t->chat_template ? MIL_OK : error_nomem(err, chat.n);
}

static enum mil_status read_tokenizer(const struct gguf_file *f, struct tokenizer *t,
                                      struct mil_error *err) {
    struct gguf_str model;
    bool add_bos = false;
    if (!gguf_get_str(f, "tokenizer.ggml.model", &model))
        return error_set(err, MIL_INPUT, "the GGUF file holds no tokenizer (tokenizer.ggml.model)");
    if (gguf_str_is(model, "gpt2"))
        TRY(read_gpt2(f, t, &add_bos, err));
    else if (gguf_str_is(model, "llama"))
        TRY(read_llama(f, t, &add_bos, err));
    else
        return error_set(err, MIL_UNSUPPORTED,
                         "tokenizer.ggml.model '%.*s' is not supported (gpt2 and llama are)",
                         (int)(model.n < 60 ? model.n : 60), model.data);
    TRY(read_special(f, t, add_bos, err));
    return tokenizer_finish(t, err);
}

/* A value's bytes in the file; strings stand there one behind the other, each after its length. */
static size_t value_bytes(const struct gguf_kv *kv) {
    static const unsigned char sizes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    enum gguf_type type = kv->type == GGUF_ARRAY ? kv->elem : kv->type;
    if (!kv->strings) return type < sizeof sizes ? (size_t)kv->n * sizes[type] : 0;
    const struct gguf_str *last = kv->n ? &kv->strings[kv->n - 1] : NULL;
    return last ? (size_t)((const unsigned char *)last->data + last->n - kv->data) : 0;
}

/* Everything the file says about its tokenizer. */
static void note_metadata(const struct gguf_file *f, struct tokenizer *t) {
    static const char prefix[] = "tokenizer.";
    for (size_t i = 0; i < gguf_kv_count(f); i++) {
        const struct gguf_kv *kv = gguf_kv_at(f, i);
        if (kv->key.n < sizeof prefix || memcmp(kv->key.data, prefix, sizeof prefix - 1) != 0)
            continue;
        tokenizer_note(t, "key", kv->key.data, kv->key.n);
        tokenizer_note(t, "value", kv->data, value_bytes(kv));
    }
}

enum mil_status tokenizer_open_gguf(const struct gguf_file *f, struct tokenizer **out,
                                    struct mil_error *err) {
    *out = NULL;
    struct tokenizer *t = tokenizer_new();
    if (!t) return error_nomem(err, sizeof *t);
    enum mil_status st = read_tokenizer(f, t, err);
    if (st == MIL_OK) note_metadata(f, t);
    if (st != MIL_OK) tokenizer_free(&t);
    *out = t;
    return st;
}
