/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_json.c - the model and the added tokens of tokenizer.json (Hugging Face tokenizers).
 * The pipeline around the model is read by tokenizer_steps.c.  docs/formats/tokenizer.md lists what
 * is honoured; everything else is refused by name.  `truncation` and `padding` are settings of one
 * caller of that library, not of the tokenizer, and are ignored.
 *
 * Nine tenths of a file are `vocab` and `merges`: tokenizer_tables.c takes them out and reads them
 * without a tree; here is what is left. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_steps.h"
#include "text/tokenizer_tables.h"

static enum mil_status refuse_affix(const json_t *model, const char *key, struct mil_error *err) {
    const char *value = NULL;
    TRY(json_member_str(model, "model", key, false, &value, err));
    if (!value || !*value) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED, "model.%s '%.40s' is not supported", key, value);
}

static enum mil_status read_model(const json_t *root, const struct tokenizer_tables *tables,
                                  struct tokenizer *t, struct mil_error *err) {
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
    TRY(tokenizer_read_vocab(tables, t, err));
    TRY(tokenizer_read_merges(tables, t, err));
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

static enum mil_status read_root(const json_t *root, const struct tokenizer_tables *tables,
                                 struct tokenizer *t, struct mil_error *err) {
    if (!json_is_object(root)) return error_set(err, MIL_INPUT, "is no JSON object");
    TRY(tokenizer_read_pretok(json_object_get(root, "pre_tokenizer"), t, err));
    TRY(tokenizer_read_normalizer(json_object_get(root, "normalizer"), t, err));
    TRY(tokenizer_read_decoder(json_object_get(root, "decoder"), t, err));
    TRY(read_model(root, tables, t, err));
    const json_t *added = json_object_get(root, "added_tokens");
    if (added && !json_is_null(added)) {
        if (!json_is_array(added)) return error_set(err, MIL_INPUT, "added_tokens is no array");
        TRY(tokenizer_read_added(added, t, err));
    }
    return tokenizer_read_post_processor(json_object_get(root, "post_processor"), t, err);
}

static enum mil_status read_text(const char *text, size_t n, const char *path, struct tokenizer *t,
                                 struct mil_error *err) {
    struct tokenizer_tables tables = {0};
    struct str rest = {0};
    json_t *root = NULL;
    enum mil_status st = tokenizer_cut_tables(text, n, &tables, &rest, err);
    if (st == MIL_OK) st = json_read_text(str_c(&rest), rest.len, path, &root, err);
    str_release(&rest);
    if (st == MIL_OK) {
        st = read_root(root, &tables, t, err);
        if (st != MIL_OK) error_prefix(err, "%s: ", path);
    }
    json_decref(root);
    return st;
}

/* Why the file is refused: if it is no JSON that comes first, with its place in the file. */
static enum mil_status refuse_text(const char *text, size_t n, const char *path,
                                   enum mil_status why, struct mil_error *err) {
    struct mil_error syntax = {0};
    json_t *whole = NULL;
    enum mil_status st = json_read_text(text, n, path, &whole, &syntax);
    json_decref(whole);
    if (st == MIL_OK) return why;
    if (err) *err = syntax;
    return st;
}

enum mil_status tokenizer_read_json(const char *path, struct tokenizer *t, struct mil_error *err) {
    struct mapped_file file;
    TRY(file_map(path, &file, err));
    const char *text = file.data ? (const char *)file.data : "";
    enum mil_status st =
        file.size <= JSON_MAX_BYTES
            ? read_text(text, file.size, path, t, err)
            : error_set(err, MIL_INPUT, "%s: %zu bytes, larger than the limit of %zu bytes", path,
                        file.size, JSON_MAX_BYTES);
    if (st == MIL_OK) tokenizer_note(t, "tokenizer.json", text, file.size);
    if (st != MIL_OK && st != MIL_NOMEM && file.size <= JSON_MAX_BYTES)
        st = refuse_text(text, file.size, path, st, err);
    file_unmap(&file);
    return st;
}
