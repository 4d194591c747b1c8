/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_facts.c - architecture of a model, metadata of a GGUF file, as named facts (of an adapter:
 * inspect_adapter.c). A family that is not supported is a fact too, with the reason. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/inspect.h"
#include "io/file.h"
#include "model/config.h"

static enum mil_status rope_facts(struct facts *f, const struct rope_config *rope,
                                  struct mil_error *err) {
    TRY(facts_number(f, "rope_theta", err, "%.15g", rope->theta));
    if (rope->kind == ROPE_PLAIN) return MIL_OK;
    TRY(facts_text(f, "rope_scaling", rope->kind == ROPE_LINEAR ? "linear" : "llama3", err));
    return facts_number(f, "rope_factor", err, "%.15g", rope->factor);
}

static enum mil_status eos_fact(struct facts *f, const struct model_config *c,
                                struct mil_error *err) {
    char list[160] = "[";
    for (int i = 0; i < c->n_eos; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, i ? ", %" PRId32 : "%" PRId32, c->eos[i]);
    }
    return facts_number(f, "eos_token_id", err, "%s]", list);
}

static enum mil_status config_facts(struct facts *f, const struct model_config *c,
                                    struct mil_error *err) {
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {
        {"vocab_size", c->vocab},
        {"hidden_size", c->width},
        {"num_hidden_layers", c->layers},
        {"num_attention_heads", c->heads},
        {"num_key_value_heads", c->kv_heads},
        {"head_dim", c->head_dim},
        {"intermediate_size", c->ffn},
        {"max_position_embeddings", c->max_positions},
        {"sliding_window", c->window},
        {"config_parameters", model_config_parameters(c)},
    };
    TRY(facts_text(f, "family", c->family, err));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        TRY(facts_number(f, sizes[i].key, err, "%" PRId64, sizes[i].value));
    TRY(facts_number(f, "rms_norm_eps", err, "%.15g", c->norm_eps));
    TRY(rope_facts(f, &c->rope, err));
    TRY(facts_number(f, "tie_word_embeddings", err, "%s", c->tied_head ? "true" : "false"));
    TRY(facts_number(f, "attention_bias", err, "%s", c->qkv_bias ? "true" : "false"));
    TRY(facts_number(f, "mlp_bias", err, "%s", c->mlp_bias ? "true" : "false"));
    if (c->bos >= 0) TRY(facts_number(f, "bos_token_id", err, "%" PRId32, c->bos));
    return eos_fact(f, c, err);
}

/* Facts of a configuration that was read with this status; only a refusal of the family or of an
 * option is tolerated. */
static enum mil_status supported_facts(struct facts *f, enum mil_status read,
                                       const struct model_config *c, const struct mil_error *why,
                                       struct mil_error *err) {
    if (read == MIL_OK) {
        TRY(facts_number(f, "supported", err, "true"));
        return config_facts(f, c, err);
    }
    if (read != MIL_UNSUPPORTED) {
        *err = *why;
        return read;
    }
    TRY(facts_number(f, "supported", err, "false"));
    return facts_text(f, "reason", why->message, err);
}

enum mil_status inspect_model_facts(struct mil_inspection *in, const char *dir,
                                    struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, "config.json", err));
    json_t *root = NULL;
    TRY(json_read_file(path, &root, err));
    struct model_config config;
    struct mil_error why = {0};
    enum mil_status read = model_config_from_json(root, path, &config, &why);
    enum mil_status st = supported_facts(&in->facts, read, &config, &why, err);
    const json_t *type = json_object_get(root, "torch_dtype");
    if (!type) type = json_object_get(root, "dtype");
    if (st == MIL_OK && json_is_string(type)) st = facts_json(&in->facts, "dtype", type, err);
    json_decref(root);
    return st;
}

/* ---- GGUF */

/* "[string x 32000]" for an array: token lists are not for reading. */
static enum mil_status gguf_array(struct facts *f, const struct gguf_kv *kv,
                                  struct mil_error *err) {
    static const char *const types[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    char value[64];
    int n = snprintf(value, sizeof value, "[%s x %" PRIu64 "]",
                     kv->elem <= GGUF_F64 ? types[kv->elem] : "?", kv->n);
    return facts_add(f, kv->key.data, kv->key.n, value, (size_t)n, false, err);
}

static enum mil_status gguf_fact(struct facts *f, const struct gguf_kv *kv, struct mil_error *err) {
    char value[64];
    int n;
    switch (kv->type) {
    case GGUF_ARRAY: return gguf_array(f, kv, err);
    case GGUF_STRING:
        return facts_add(f, kv->key.data, kv->key.n, kv->strings[0].data,
                         utf8_valid_prefix(kv->strings[0].data, kv->strings[0].n), false, err);
    case GGUF_F32:
    case GGUF_F64: n = snprintf(value, sizeof value, "%.9g", gguf_value_f64(kv, 0)); break;
    case GGUF_BOOL:
        n = snprintf(value, sizeof value, "%s", gguf_value_i64(kv, 0) ? "true" : "false");
        break;
    default: n = snprintf(value, sizeof value, "%" PRId64, gguf_value_i64(kv, 0)); break;
    }
    return facts_add(f, kv->key.data, kv->key.n, value, (size_t)n, true, err);
}

enum mil_status inspect_gguf_facts(struct mil_inspection *in, const char *path,
                                   struct mil_error *err) {
    for (size_t i = 0; i < gguf_kv_count(in->gguf); i++)
        TRY(gguf_fact(&in->metadata, gguf_kv_at(in->gguf, i), err));
    TRY(facts_number(&in->facts, "gguf_version", err, "%" PRIu32, gguf_version(in->gguf)));
    int64_t blocks;
    struct gguf_str arch;
    if (!gguf_get_str(in->gguf, "general.architecture", &arch)) return MIL_OK;
    TRY(facts_add(&in->facts, "architecture", 12, arch.data, utf8_valid_prefix(arch.data, arch.n),
                  false, err));
    char key[80];
    snprintf(key, sizeof key, "%.*s.block_count", arch.n < 40 ? (int)arch.n : 40, arch.data);
    if (gguf_tensor_count(in->gguf) == 0 || !gguf_get_i64(in->gguf, key, &blocks)) return MIL_OK;
    struct model_config config;
    struct mil_error why = {0};
    enum mil_status read = model_config_from_gguf(in->gguf, path, &config, &why);
    return supported_facts(&in->facts, read, &config, &why, err);
}
