/* SPDX-License-Identifier: Apache-2.0 */
/* family.c - see family.h.  LLaMA 1 to 3.x and SmolLM2 all are "llama".  Sources of the rows: the
 * configuration classes of transformers and the conversion script of llama.cpp. */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

static const struct family families[] = {
    {.name = "llama",
     .gguf = "llama",
     .architecture = "LlamaForCausalLM",
     .attention_bias_key = true,
     .mlp_bias_key = true,
     .gguf_permuted = true,
     .window = WINDOW_NEVER,
     .default_positions = 2048},
    {.name = "mistral",
     .gguf = NULL, /* a Mistral in GGUF says "llama" */
     .architecture = "MistralForCausalLM",
     .kv_heads_required = true,
     .window = WINDOW_ALWAYS,
     .default_window = 4096,
     .default_positions = 131072},
    {.name = "qwen2",
     .gguf = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .qkv_bias = true,
     .kv_heads_required = true,
     .window = WINDOW_SWITCHED,
     .default_positions = 32768},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

const struct family *family_named(const char *name) {
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

/* "llama, mistral, qwen2" */
static const char *known_names(char *buf, size_t cap) {
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < N_FAMILIES && used < cap; i++)
        used += (size_t)snprintf(buf + used, cap - used, "%s%s", i ? ", " : "", families[i].name);
    return buf;
}

enum mil_status family_of_model_type(const char *type, const char *where, const struct family **out,
                                     struct mil_error *err) {
    char known[128];
    *out = family_named(type);
    if (*out) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED, "%s: model_type \"%.60s\" is not supported; known: %s",
                     where, type, known_names(known, sizeof known));
}

enum mil_status family_of_gguf(const char *architecture, const char *where,
                               const struct family **out, struct mil_error *err) {
    char known[128];
    for (int i = 0; i < N_FAMILIES; i++) {
        if (!families[i].gguf || strcmp(families[i].gguf, architecture) != 0) continue;
        *out = &families[i];
        return MIL_OK;
    }
    return error_set(err, MIL_UNSUPPORTED,
                     "%s: general.architecture \"%.60s\" is not supported; known families: %s",
                     where, architecture, known_names(known, sizeof known));
}
