/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_carry.c - see tokenizer_carry.h.
 *
 * "gpt2" files hold the pieces in the byte-level alphabet and the merges as text: they go over as they
 * are.  "llama" files hold scores instead of merges; the equivalent merges are, for every piece, the
 * ways to cut it into two pieces, in the order of falling score of the whole, and of the ids of the parts
 * where scores are equal. */
#include "text/tokenizer_carry.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_gguf.h"
#include "text/vocab.h"

struct source {
    const struct gguf_kv *tokens, *types;
    bool llama;
    const struct pre_row *pre; /* gpt2 */
    bool add_bos, add_eos, space_prefix;
    int64_t bos, eos, unk; /* -1: none */
};

static int64_t id_of(const struct gguf_file *f, const char *key) {
    int64_t id = -1;
    gguf_get_i64(f, key, &id);
    return id;
}

/* The file was opened as a tokenizer before: keys, kinds and ranges hold. */
static enum mil_status source_open(const struct gguf_file *f, struct source *s,
                                   struct mil_error *err) {
    struct gguf_str model = {"", 0};
    gguf_get_str(f, "tokenizer.ggml.model", &model);
    *s = (struct source){.tokens = gguf_find(f, "tokenizer.ggml.tokens"),
                         .types = gguf_find(f, "tokenizer.ggml.token_type"),
                         .llama = gguf_str_is(model, "llama"),
                         .space_prefix = true,
                         .bos = id_of(f, "tokenizer.ggml.bos_token_id"),
                         .eos = id_of(f, "tokenizer.ggml.eos_token_id"),
                         .unk = id_of(f, "tokenizer.ggml.unknown_token_id")};
    if (!s->llama) TRY(gguf_pre_find(f, &s->pre, err));
    s->add_bos = s->llama || s->pre->add_bos;
    gguf_get_bool(f, "tokenizer.ggml.add_bos_token", &s->add_bos);
    gguf_get_bool(f, "tokenizer.ggml.add_eos_token", &s->add_eos);
    gguf_get_bool(f, "tokenizer.ggml.add_space_prefix", &s->space_prefix);
    bool collapse = false;
    gguf_get_bool(f, "tokenizer.ggml.remove_extra_whitespaces", &collapse);
    if (collapse)
        return error_set(err, MIL_UNSUPPORTED,
                         "a tokenizer that removes extra white space cannot be written as "
                         "tokenizer.json");
    if (s->llama && s->unk < 0) s->unk = 0;
    s->add_bos = s->add_bos && s->bos >= 0;
    s->add_eos = s->add_eos && s->eos >= 0;
    return MIL_OK;
}

static void put_piece(const struct source *s, int64_t id, struct str *out) {
    struct gguf_str piece = s->tokens->strings[id];
    json_append_string(piece.data, piece.n, out);
}

/* ---- parts of tokenizer.json ---- */

static void put_added(const struct source *s, struct str *out) {
    bool first = true;
    str_add(out, "\"added_tokens\": [");
    for (uint64_t i = 0; i < s->tokens->n; i++) {
        int64_t type = gguf_value_i64(s->types, i);
        bool special = type == GGUF_CONTROL || type == GGUF_UNKNOWN;
        if ((!special && type != GGUF_USER) || s->tokens->strings[i].n == 0) continue;
        str_addf(out, "%s\n    {\"id\": %llu, \"content\": ", first ? "" : ",",
                 (unsigned long long)i);
        put_piece(s, (int64_t)i, out);
        str_addf(out,
                 ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                 "\"normalized\": false, \"special\": %s}",
                 special ? "true" : "false");
        first = false;
    }
    str_add(out, "],\n");
}

static void put_text_steps(const struct source *s, struct str *out) {
    static const char underline[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */
    if (s->llama) {
        str_add(out, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
        if (s->space_prefix)
            str_addf(out, "{\"type\": \"Prepend\", \"prepend\": \"%s\"}, ", underline);
        str_addf(
            out,
            "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"%s\"}]},\n"
            "  \"pre_tokenizer\": null,\n",
            underline);
        return;
    }
    str_add(out, "  \"normalizer\": null,\n"
                 "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n");
    for (size_t i = 0; i < 3 && s->pre->regexes[i]; i++) {
        str_add(out, "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        json_append_string(s->pre->regexes[i], strlen(s->pre->regexes[i]), out);
        str_add(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n");
    }
    str_add(out,
            "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
            "\"use_regex\": false}]},\n");
}

static void put_special_item(const struct source *s, int64_t id, struct str *out) {
    str_add(out, "{\"SpecialToken\": {\"id\": ");
    put_piece(s, id, out);
    str_add(out, ", \"type_id\": 0}}");
}

static void put_sequence(const struct source *s, const char *name, bool pair, struct str *out) {
    str_addf(out, "    \"%s\": [", name);
    for (int part = 0; part < (pair ? 2 : 1); part++) {
        if (part) str_add(out, ", ");
        if (s->add_bos) put_special_item(s, s->bos, out);
        str_addf(out, "%s{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", s->add_bos ? ", " : "",
                 "AB"[part], part);
        if (!s->add_eos) continue;
        str_add(out, ", ");
        put_special_item(s, s->eos, out);
    }
    str_add(out, "],\n");
}

static void put_special_token(const struct source *s, int64_t id, struct str *out) {
    str_add(out, "      ");
    put_piece(s, id, out);
    str_add(out, ": {\"id\": ");
    put_piece(s, id, out);
    str_addf(out, ", \"ids\": [%lld], \"tokens\": [", (long long)id);
    put_piece(s, id, out);
    str_add(out, "]}");
}

static void put_post_processor(const struct source *s, struct str *out) {
    if (!s->add_bos && !s->add_eos) {
        str_add(out, "  \"post_processor\": null,\n");
        return;
    }
    str_add(out, "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n");
    put_sequence(s, "single", false, out);
    put_sequence(s, "pair", true, out);
    str_add(out, "    \"special_tokens\": {\n");
    if (s->add_bos) put_special_token(s, s->bos, out);
    if (s->add_eos && s->eos != s->bos) {
        str_add(out, s->add_bos ? ",\n" : "");
        put_special_token(s, s->eos, out);
    }
    str_add(out, "}},\n");
}

static void put_decoder(const struct source *s, struct str *out) {
    if (!s->llama) {
        str_add(out, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                     "\"trim_offsets\": true, \"use_regex\": true},\n");
        return;
    }
    str_add(out, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", "
                 "\"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, "
                 "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (s->space_prefix)
        str_add(out, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    str_add(out, "]},\n");
}

/* ---- vocabulary and merges ---- */

static void put_vocab(const struct source *s, struct str *out) {
    str_add(out, "    \"vocab\": {\n");
    for (uint64_t i = 0; i < s->tokens->n; i++) {
        str_add(out, "      ");
        put_piece(s, (int64_t)i, out);
        str_addf(out, ": %llu%s\n", (unsigned long long)i, i + 1 < s->tokens->n ? "," : "");
    }
    str_add(out, "    },\n");
}

static void put_text_merges(const struct gguf_kv *merges, struct str *out) {
    for (uint64_t i = 0; i < merges->n; i++) {
        str_add(out, i ? ",\n      " : "\n      ");
        json_append_string(merges->strings[i].data, merges->strings[i].n, out);
    }
}

/* One way to make a piece of two. */
struct cut {
    double score;
    int32_t left, right;
};

static int by_score(const void *pa, const void *pb) {
    const struct cut *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->left != b->left) return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

struct cuts {
    struct cut *items;
    size_t n, cap;
};

static enum mil_status cuts_add(struct cuts *c, struct cut cut, struct mil_error *err) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 4096;
        struct cut *grown = mem_realloc(MEM_TEXT, c->items, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        c->items = grown;
        c->cap = cap;
    }
    c->items[c->n++] = cut;
    return MIL_OK;
}

/* Every cut of a piece at a character boundary whose halves are pieces. */
static enum mil_status cut_piece(const struct vocab *v, struct gguf_str piece, double score,
                                 struct cuts *out, struct mil_error *err) {
    for (size_t i = 1; i < piece.n; i++) {
        if (((unsigned char)piece.data[i] & 0xc0) == 0x80) continue;
        int32_t left = vocab_find(v, piece.data, i);
        int32_t right = left < 0 ? -1 : vocab_find(v, piece.data + i, piece.n - i);
        if (right >= 0) TRY(cuts_add(out, (struct cut){score, left, right}, err));
    }
    return MIL_OK;
}

static enum mil_status find_cuts(const struct gguf_file *f, const struct source *s, struct vocab *v,
                                 struct cuts *out, struct mil_error *err) {
    const struct gguf_kv *scores = gguf_find(f, "tokenizer.ggml.scores");
    for (uint64_t i = 0; i < s->tokens->n; i++) {
        bool normal = gguf_value_i64(s->types, i) == GGUF_NORMAL;
        struct gguf_str piece = s->tokens->strings[i];
        TRY(vocab_put(v, (int64_t)i, piece.data, piece.n, normal ? PIECE_KEY : PIECE_RAW, err));
    }
    TRY(vocab_index(v, err));
    for (uint64_t i = 0; i < s->tokens->n; i++)
        if (gguf_value_i64(s->types, i) == GGUF_NORMAL)
            TRY(cut_piece(v, s->tokens->strings[i], gguf_value_f64(scores, i), out, err));
    if (out->n) qsort(out->items, out->n, sizeof *out->items, by_score);
    return MIL_OK;
}

static enum mil_status put_score_merges(const struct gguf_file *f, const struct source *s,
                                        struct str *out, struct mil_error *err) {
    struct vocab v = {0};
    struct cuts cuts = {0};
    enum mil_status st = find_cuts(f, s, &v, &cuts, err);
    for (size_t i = 0; st == MIL_OK && i < cuts.n; i++) {
        str_add(out, i ? ",\n      [" : "\n      [");
        put_piece(s, cuts.items[i].left, out);
        str_add(out, ", ");
        put_piece(s, cuts.items[i].right, out);
        str_add(out, "]");
    }
    mem_free(cuts.items);
    vocab_release(&v);
    return st;
}

static enum mil_status put_model(const struct gguf_file *f, const struct source *s, struct str *out,
                                 struct mil_error *err) {
    bool ignore_merges = !s->llama && s->pre->ignore_merges;
    str_add(out, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (s->llama)
        put_piece(s, s->unk, out);
    else
        str_add(out, "null");
    str_addf(out,
             ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
             "\"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": %s,\n",
             s->llama ? "true" : "false", s->llama ? "true" : "false",
             ignore_merges ? "true" : "false");
    put_vocab(s, out);
    str_add(out, "    \"merges\": [");
    if (s->llama)
        TRY(put_score_merges(f, s, out, err));
    else
        put_text_merges(gguf_find(f, "tokenizer.ggml.merges"), out);
    str_add(out, "]\n  }\n}\n");
    return MIL_OK;
}

/* ---- files ---- */

static enum mil_status write_json(const struct gguf_file *f, const struct source *s,
                                  const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    struct str out = {0};
    TRY(path_join(path, dir, "tokenizer.json", err));
    str_add(&out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  ");
    put_added(s, &out);
    put_text_steps(s, &out);
    put_post_processor(s, &out);
    put_decoder(s, &out);
    enum mil_status st = put_model(f, s, &out, err);
    if (st == MIL_OK) st = str_status(&out, err);
    if (st == MIL_OK) st = file_write(path, out.data, out.len, err);
    str_release(&out);
    return st;
}

static void put_config_token(const struct source *s, const char *key, int64_t id, struct str *out) {
    if (id < 0) return;
    str_addf(out, ",\n  \"%s\": ", key);
    put_piece(s, id, out);
}

static enum mil_status write_config(const struct gguf_file *f, const struct source *s,
                                    const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    struct str out = {0};
    struct gguf_str chat;
    TRY(path_join(path, dir, "tokenizer_config.json", err));
    str_add(&out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                  "  \"clean_up_tokenization_spaces\": false");
    put_config_token(s, "bos_token", s->bos, &out);
    put_config_token(s, "eos_token", s->eos, &out);
    put_config_token(s, "unk_token", s->unk, &out);
    if (gguf_get_str(f, "tokenizer.chat_template", &chat)) {
        str_add(&out, ",\n  \"chat_template\": ");
        json_append_string(chat.data, chat.n, &out);
    }
    str_add(&out, "\n}\n");
    enum mil_status st = str_status(&out, err);
    if (st == MIL_OK) st = file_write(path, out.data, out.len, err);
    str_release(&out);
    return st;
}

enum mil_status tokenizer_carry_gguf(const struct gguf_file *f, const char *dir,
                                     struct mil_error *err) {
    struct tokenizer *checked = NULL;
    struct source s;
    TRY(tokenizer_open_gguf(f, &checked, err));
    tokenizer_free(&checked);
    TRY(source_open(f, &s, err));
    TRY(write_json(f, &s, dir, err));
    return write_config(f, &s, dir, err);
}
