/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_json.c - the model and the added tokens of tokenizer.json (Hugging Face tokenizers).
 * The pipeline around the model is read by tokenizer_steps.c.  docs/formats/tokenizer.md lists what
 * is honoured; everything else is refused by name.  `truncation` and `padding` are settings of one
 * caller of that library, not of the tokenizer, and are ignored. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/json.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_steps.h"

static enum mil_status read_vocab(const json_t *model, struct tokenizer *t, struct mil_error *err) {
    json_t *vocab = json_object_get(model, "vocab"), *value;
    if (!json_is_object(vocab)) return error_set(err, MIL_INPUT, "model.vocab is not an object");
    const char *key;
    struct str bytes = {0};
    enum mil_status st = MIL_OK;
    json_object_foreach(vocab, key, value) {
        size_t n = strlen(key);
        str_reset(&bytes);
        /* A piece outside the byte alphabet can only be an added token: merging cannot reach it. */
        bool mapped = t->bpe.byte_symbols && bytelevel_unmap(key, n, &bytes);
        bool reachable = mapped || !t->bpe.byte_symbols;
        if (!json_is_integer(value))
            st = error_set(err, MIL_INPUT, "model.vocab: the id of '%.60s' is no integer", key);
        else
            st = vocab_put(&t->bpe.vocab, json_integer_value(value), mapped ? str_c(&bytes) : key,
                           mapped ? bytes.len : n, reachable ? PIECE_KEY : PIECE_RAW, err);
        if (st == MIL_OK) st = str_status(&bytes, err);
        if (st != MIL_OK) break;
    }
    str_release(&bytes);
    if (st != MIL_OK) return st;
    return vocab_index(&t->bpe.vocab, err);
}

/* The two halves of a merge: "a b" or ["a", "b"]. */
static bool merge_halves(const json_t *merge, const char *half[2], size_t n[2]) {
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        for (size_t i = 0; i < 2; i++) {
            half[i] = json_string_value(json_array_get(merge, i));
            if (!half[i]) return false;
            n[i] = strlen(half[i]);
        }
        return true;
    }
    half[0] = json_string_value(merge);
    const char *space = half[0] ? strchr(half[0], ' ') : NULL;
    if (!space || strchr(space + 1, ' ')) return false;
    n[0] = (size_t)(space - half[0]);
    half[1] = space + 1;
    n[1] = strlen(half[1]);
    return true;
}

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

enum mil_status tokenizer_put_merge(struct tokenizer *t, const char *half[2], const size_t n[2],
                                    int32_t rank, struct str *joined, struct mil_error *err) {
    str_reset(joined);
    struct merge m = {.rank = rank};
    m.left = find_half(t, half[0], n[0], joined);
    m.right = m.left < 0 ? -1 : find_half(t, half[1], n[1], joined);
    m.id = m.right < 0 ? -1 : vocab_find(&t->bpe.vocab, str_c(joined), joined->len);
    TRY(str_status(joined, err));
    if (m.id < 0)
        return error_set(err, MIL_INPUT,
                         "merge %d ('%.*s' with '%.*s') has a part or a result that "
                         "is not in the vocabulary",
                         (int)rank, (int)(n[0] < 60 ? n[0] : 60), half[0],
                         (int)(n[1] < 60 ? n[1] : 60), half[1]);
    merges_put(&t->bpe.merges, m);
    return MIL_OK;
}

static enum mil_status read_merges(const json_t *model, struct tokenizer *t,
                                   struct mil_error *err) {
    json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges)) return error_set(err, MIL_INPUT, "model.merges is not an array");
    size_t n = json_array_size(merges);
    if (n > INT32_MAX / 4) return error_set(err, MIL_INPUT, "model.merges has %zu entries", n);
    TRY(merges_reserve(&t->bpe.merges, n, err));
    struct str joined = {0};
    enum mil_status st = MIL_OK;
    for (size_t i = 0; st == MIL_OK && i < n; i++) {
        const char *half[2];
        size_t len[2];
        if (!merge_halves(json_array_get(merges, i), half, len))
            st = error_set(err, MIL_INPUT,
                           "model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]", i);
        else
            st = tokenizer_put_merge(t, half, len, (int32_t)i, &joined, err);
    }
    str_release(&joined);
    return st;
}

static enum mil_status refuse_affix(const json_t *model, const char *key, struct mil_error *err) {
    const char *value = NULL;
    TRY(json_member_str(model, "model", key, false, &value, err));
    if (!value || !*value) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED, "model.%s '%.40s' is not supported", key, value);
}

static enum mil_status read_model(const json_t *root, struct tokenizer *t, struct mil_error *err) {
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model)) return error_set(err, MIL_INPUT, "there is no `model` object");
    const char *type = "BPE", *unk = NULL; /* files of the first versions have no type */
    TRY(json_member_str(model, "model", "type", false, &type, err));
    if (strcmp(type, "BPE") != 0)
        return error_set(err, MIL_UNSUPPORTED, "model type '%.40s' is not supported (only BPE is)",
                         type);
    TRY(refuse_affix(model, "continuing_subword_prefix", err));
    TRY(refuse_affix(model, "end_of_word_suffix", err));
    double dropout = 0;
    TRY(json_member_f64(model, "model", "dropout", false, 0, 1, &dropout, err));
    if (dropout > 0) return error_set(err, MIL_UNSUPPORTED, "model.dropout is not supported");
    TRY(json_member_bool(model, "model", "ignore_merges", false, &t->bpe.ignore_merges, err));
    TRY(json_member_bool(model, "model", "byte_fallback", false, &t->bpe.byte_fallback, err));
    TRY(json_member_bool(model, "model", "fuse_unk", false, &t->bpe.fuse_unk, err));
    TRY(json_member_str(model, "model", "unk_token", false, &unk, err));
    TRY(read_vocab(model, t, err));
    TRY(read_merges(model, t, err));
    tokenizer_find_bytes(t);
    if (!unk) return MIL_OK;
    t->bpe.unk = vocab_find(&t->bpe.vocab, unk, strlen(unk));
    if (t->bpe.unk >= 0) return MIL_OK;
    return error_set(err, MIL_INPUT, "model.unk_token '%.60s' is not in the vocabulary", unk);
}

/* Check an added token against the vocabulary, or put it there.  piece: its content in file form.
 */
static enum mil_status put_piece(struct vocab *v, int64_t id, const char *piece, bool byte_level,
                                 struct mil_error *err) {
    size_t n = strlen(piece);
    struct str bytes = {0};
    bool mapped = byte_level && bytelevel_unmap(piece, n, &bytes);
    const char *b = mapped ? str_c(&bytes) : piece;
    size_t len = mapped ? bytes.len : n;
    int32_t known = mapped || !byte_level ? vocab_find(v, b, len) : -1;
    enum mil_status st = str_status(&bytes, err);
    if (st == MIL_OK && vocab_has(v, id) &&
        (v->pieces[id].n != len || memcmp(vocab_bytes(v, (int32_t)id), b, len) != 0))
        st = error_set(err, MIL_INPUT,
                       "added token '%.60s' has id %lld, which is '%.60s' in the vocabulary", piece,
                       (long long)id, vocab_bytes(v, (int32_t)id));
    else if (st == MIL_OK && known >= 0 && known != id)
        st = error_set(err, MIL_INPUT,
                       "added token '%.60s' has id %lld here and %d in the vocabulary", piece,
                       (long long)id, (int)known);
    else if (st == MIL_OK && !vocab_has(v, id))
        st = vocab_put(v, id, b, len, PIECE_RAW, err);
    str_release(&bytes);
    return st;
}

static enum mil_status put_added(struct tokenizer *t, const char *content, struct added_token token,
                                 struct mil_error *err) {
    struct vocab *v = &t->bpe.vocab;
    TRY(put_piece(v, token.id, content, t->bpe.byte_symbols, err));
    if (token.special) v->pieces[token.id].flags |= PIECE_SPECIAL;
    return added_put(&t->raw, token, content, strlen(content), err);
}

/* A token that is looked for in the normalised text is looked for in its normalised form, and is
 * decoded to that form. */
static enum mil_status put_normalized(struct tokenizer *t, const char *content,
                                      struct added_token token, struct mil_error *err) {
    struct mapped_text form = {0}, spare = {0};
    struct vocab *v = &t->bpe.vocab;
    size_t n = strlen(content);
    enum mil_status st = normalizer_run(&t->normalizer, content, n, 0, &form, &spare, err);
    bool known = vocab_has(v, token.id);
    const char *normal = str_c(&form.text);
    if (st == MIL_OK)
        st = put_piece(v, token.id, known ? content : normal, t->bpe.byte_symbols, err);
    if (st == MIL_OK && token.special) v->pieces[token.id].flags |= PIECE_SPECIAL;
    if (st == MIL_OK) st = added_put(&t->normal, token, normal, form.text.len, err);
    mapped_release(&form);
    mapped_release(&spare);
    return st;
}

static enum mil_status read_one_added(const json_t *node, int64_t id, struct tokenizer *t,
                                      struct mil_error *err) {
    const char *content = NULL;
    struct added_token token = {0};
    TRY(json_member_i64(node, "added token", "id", id < 0, 0, VOCAB_MAX_ID - 1, &id, err));
    if (id >= VOCAB_MAX_ID) return error_set(err, MIL_INPUT, "added token %lld", (long long)id);
    TRY(json_member_str(node, "added token", "content", true, &content, err));
    TRY(json_member_bool(node, "added token", "special", false, &token.special, err));
    bool normalized = !token.special;
    TRY(json_member_bool(node, "added token", "normalized", false, &normalized, err));
    TRY(json_member_bool(node, "added token", "single_word", false, &token.single_word, err));
    TRY(json_member_bool(node, "added token", "lstrip", false, &token.lstrip, err));
    TRY(json_member_bool(node, "added token", "rstrip", false, &token.rstrip, err));
    token.id = (int32_t)id;
    return normalized ? put_normalized(t, content, token, err) : put_added(t, content, token, err);
}

enum mil_status tokenizer_read_added(const void *node, struct tokenizer *t, struct mil_error *err) {
    const json_t *list = node;
    if (json_is_array(list)) {
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *token = json_array_get(list, i);
            if (!json_is_object(token))
                return error_set(err, MIL_INPUT, "added_tokens[%zu] is no object", i);
            TRY(read_one_added(token, -1, t, err));
        }
        return MIL_OK;
    }
    const char *key;
    json_t *token;
    json_object_foreach((json_t *)node, key, token) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*end || end == key || id < 0 || !json_is_object(token))
            return error_set(err, MIL_INPUT, "added_tokens_decoder: '%.40s' is no token", key);
        TRY(read_one_added(token, id, t, err));
    }
    return MIL_OK;
}

static enum mil_status read_root(const json_t *root, struct tokenizer *t, struct mil_error *err) {
    if (!json_is_object(root)) return error_set(err, MIL_INPUT, "is no JSON object");
    TRY(tokenizer_read_pretok(json_object_get(root, "pre_tokenizer"), t, err));
    TRY(tokenizer_read_normalizer(json_object_get(root, "normalizer"), t, err));
    TRY(tokenizer_read_decoder(json_object_get(root, "decoder"), t, err));
    TRY(read_model(root, t, err));
    const json_t *added = json_object_get(root, "added_tokens");
    if (added && !json_is_null(added)) {
        if (!json_is_array(added)) return error_set(err, MIL_INPUT, "added_tokens is no array");
        TRY(tokenizer_read_added(added, t, err));
    }
    return tokenizer_read_post_processor(json_object_get(root, "post_processor"), t, err);
}

enum mil_status tokenizer_read_json(const char *path, struct tokenizer *t, struct mil_error *err) {
    json_t *root = NULL;
    TRY(json_read_file(path, &root, err));
    enum mil_status st = read_root(root, t, err);
    json_decref(root);
    if (st != MIL_OK) error_prefix(err, "%s: ", path);
    return st;
}
