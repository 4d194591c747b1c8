/* SPDX-License-Identifier: Apache-2.0 */
/* companions.c - what lies beside the weights in a Hugging Face directory: config.json, the tokenizer's
 * files, the generation settings.  A model that is written out takes them along; from a GGUF file they
 * are made from its metadata. */
#include "core/log.h"
#include "io/file.h"
#include "io/json.h"
#include "model/checkpoint.h"
#include "text/tokenizer_carry.h"

static const char *torch_name(enum dtype t) {
    return t == DT_BF16 ? "bfloat16" : t == DT_F16 ? "float16" : "float32";
}

enum mil_status checkpoint_write_config(const struct checkpoint *c, enum dtype stored, bool fresh,
                                        const char *dir, struct mil_error *err) {
    char path[PATH_CAP];
    bool own = fresh || !c->config_json;
    TRY(path_join(path, dir, "config.json", err));
    json_t *config =
        own ? model_config_to_json(&c->config, stored) : json_deep_copy(c->config_json);
    if (!config) return error_nomem(err, 0);
    if (!own && stored != DTYPES) {
        bool newer = json_object_get(config, "dtype") != NULL; /* transformers 5 spells it so */
        if (newer) json_object_set_new(config, "dtype", json_string(torch_name(stored)));
        if (!newer || json_object_get(config, "torch_dtype"))
            json_object_set_new(config, "torch_dtype", json_string(torch_name(stored)));
    }
    enum mil_status st = json_write_file(path, config, err);
    json_decref(config);
    return st;
}

/* A tokenizer that is not there, or of a kind that cannot be written, does not stop the rest. */
static enum mil_status carry_gguf(const struct checkpoint *c, const char *dir,
                                  struct mil_error *err) {
    struct mil_error why;
    const char *remedy = "copy the original model's tokenizer files into the output";
    if (!gguf_find(c->gguf, "tokenizer.ggml.model")) {
        log_warning("%s: the file holds no tokenizer; %s", c->path, remedy);
        return MIL_OK;
    }
    enum mil_status st = tokenizer_carry_gguf(c->gguf, dir, &why);
    if (st == MIL_UNSUPPORTED) {
        log_warning("%s: the tokenizer cannot be carried over (%s); %s", c->path, why.message,
                    remedy);
        return MIL_OK;
    }
    if (st != MIL_OK && err) *err = why;
    return st;
}

enum mil_status checkpoint_carry_files(const struct checkpoint *c, const char *dir,
                                       struct mil_error *err) {
    static const char *const names[] = {
        "generation_config.json", "tokenizer.json",     "tokenizer.model",
        "tokenizer_config.json",  "vocab.json",         "merges.txt",
        "added_tokens.json",      "chat_template.json", "chat_template.jinja",
        "special_tokens_map.json"};
    if (c->is_gguf) return carry_gguf(c, dir, err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[PATH_CAP], to[PATH_CAP];
        TRY(path_join(from, c->path, names[i], err));
        TRY(path_join(to, dir, names[i], err));
        if (path_exists(from)) TRY(file_copy(from, to, err));
    }
    return MIL_OK;
}
