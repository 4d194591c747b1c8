/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_config.c - what the files beside a tokenizer say: tokenizer_config.json (bos and eos
 * tokens, chat template, added tokens and add_bos_token for tokenizer.model), special_tokens_map
 * .json, chat_template.jinja, and config.json as the last resort for bos and eos. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer_impl.h"

#define TEMPLATE_LIMIT ((size_t)1 << 20)

/* "<s>" or {"content": "<s>", ...} */
static const char *token_text(const json_t *node) {
    if (json_is_object(node)) node = json_object_get(node, "content");
    return json_string_value(node);
}

static enum mil_status set_token(const json_t *root, const char *key, struct tokenizer *t,
                                 int32_t *id, struct mil_error *err) {
    const char *text = token_text(json_object_get(root, key));
    if (!text || !*text) return MIL_OK;
    int32_t found = tokenizer_id(t, text);
    if (found < 0)
        return error_set(err, MIL_INPUT, "%s '%.60s' is not in the vocabulary", key, text);
    *id = found;
    return MIL_OK;
}

/* A template, or the one called "default" of a list [{"name", "template"}]. */
static const char *template_text(const json_t *node) {
    if (!json_is_array(node)) return json_string_value(node);
    for (size_t i = 0; i < json_array_size(node); i++) {
        const json_t *item = json_array_get(node, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(item, "template"));
    }
    return NULL;
}

static enum mil_status set_template(struct tokenizer *t, const char *text, struct mil_error *err) {
    if (!text) return MIL_OK;
    mem_free(t->chat_template);
    t->chat_template = mem_strdup(MEM_TEXT, text);
    return t->chat_template ? MIL_OK : error_nomem(err, strlen(text));
}

/* tokenizer.model alone does not say what to add: LlamaTokenizer's options do. */
static enum mil_status set_affixes(const json_t *root, struct tokenizer *t, struct mil_error *err) {
    bool bos = true, eos = false;
    TRY(json_member_bool(root, "tokenizer_config.json", "add_bos_token", false, &bos, err));
    TRY(json_member_bool(root, "tokenizer_config.json", "add_eos_token", false, &eos, err));
    if (bos && t->bos >= 0) TRY(tokenizer_add_affix(t, true, t->bos, err));
    if (eos && t->eos >= 0) TRY(tokenizer_add_affix(t, false, t->eos, err));
    return MIL_OK;
}

/* Added tokens that tokenizer.model does not hold. */
static enum mil_status add_missing(const json_t *root, struct tokenizer *t, struct mil_error *err) {
    json_t *all = json_object_get(root, "added_tokens_decoder"), *token;
    const char *key;
    json_t *missing = json_object();
    if (!missing) return error_nomem(err, 0);
    json_object_foreach(all, key, token) {
        if (!vocab_has(&t->bpe.vocab, strtoll(key, NULL, 10))) json_object_set(missing, key, token);
    }
    enum mil_status st = tokenizer_read_added(missing, t, err);
    json_decref(missing);
    return st;
}

static enum mil_status use_config(const json_t *root, struct tokenizer *t, bool has_post_processor,
                                  struct mil_error *err) {
    if (!has_post_processor) TRY(add_missing(root, t, err));
    TRY(set_token(root, "bos_token", t, &t->bos, err));
    TRY(set_token(root, "eos_token", t, &t->eos, err));
    if (!has_post_processor) TRY(set_affixes(root, t, err));
    return set_template(t, template_text(json_object_get(root, "chat_template")), err);
}

/* Read dir/name if it is there; *out stays NULL otherwise. */
static enum mil_status read_optional(const char *dir, const char *name, struct tokenizer *t,
                                     json_t **out, struct mil_error *err) {
    char path[PATH_CAP];
    struct str text = {0};
    *out = NULL;
    TRY(path_join(path, dir, name, err));
    if (!path_exists(path)) return MIL_OK;
    enum mil_status st = file_read(path, JSON_MAX_BYTES, &text, err);
    if (st == MIL_OK) st = json_read_text(str_c(&text), text.len, path, out, err);
    if (st == MIL_OK) tokenizer_note(t, name, str_c(&text), text.len);
    str_release(&text);
    if (st != MIL_OK) return st;
    if (json_is_object(*out)) return MIL_OK;
    json_decref(*out);
    *out = NULL;
    return error_set(err, MIL_INPUT, "%s: is no JSON object", path);
}

static enum mil_status read_tokens_map(const char *dir, struct tokenizer *t,
                                       struct mil_error *err) {
    json_t *root;
    TRY(read_optional(dir, "special_tokens_map.json", t, &root, err));
    if (!root) return MIL_OK;
    enum mil_status st = t->bos < 0 ? set_token(root, "bos_token", t, &t->bos, err) : MIL_OK;
    if (st == MIL_OK && t->eos < 0) st = set_token(root, "eos_token", t, &t->eos, err);
    if (st != MIL_OK) error_prefix(err, "%s/special_tokens_map.json: ", dir);
    json_decref(root);
    return st;
}

/* config.json: an id, or a list of which the first counts.  Silent about ids that do not fit: the
 * model's own reader checks that file. */
static enum mil_status read_model_config(const char *dir, struct tokenizer *t,
                                         struct mil_error *err) {
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    json_t *root;
    if (t->bos >= 0 && t->eos >= 0) return MIL_OK;
    TRY(read_optional(dir, "config.json", t, &root, err));
    for (int i = 0; root && i < 2; i++) {
        const json_t *value = json_object_get(root, keys[i]);
        int32_t *id = i ? &t->eos : &t->bos;
        if (json_is_array(value)) value = json_array_get(value, 0);
        if (*id < 0 && json_is_integer(value) &&
            vocab_has(&t->bpe.vocab, json_integer_value(value)))
            *id = (int32_t)json_integer_value(value);
    }
    json_decref(root);
    return MIL_OK;
}

static enum mil_status read_jinja(const char *dir, struct tokenizer *t, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "chat_template.jinja", err));
    if (!path_exists(path)) return MIL_OK;
    struct str text = {0};
    enum mil_status st = file_read(path, TEMPLATE_LIMIT, &text, err);
    if (st == MIL_OK) st = set_template(t, str_c(&text), err);
    str_release(&text);
    return st;
}

enum mil_status tokenizer_read_config(const char *dir, struct tokenizer *t, bool has_post_processor,
                                      struct mil_error *err) {
    json_t *root = NULL;
    TRY(read_optional(dir, "tokenizer_config.json", t, &root, err));
    if (!root) root = json_object(); /* the same defaults as an empty file */
    if (!root) return error_nomem(err, 0);
    enum mil_status st = use_config(root, t, has_post_processor, err);
    if (st != MIL_OK) error_prefix(err, "%s/tokenizer_config.json: ", dir);
    json_decref(root);
    if (st != MIL_OK) return st;
    TRY(read_jinja(dir, t, err));
    TRY(read_tokens_map(dir, t, err));
    return read_model_config(dir, t, err);
}
