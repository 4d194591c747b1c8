/* SPDX-License-Identifier: Apache-2.0 */
/* config_gguf.c - GGUF metadata into struct model_config.
 *
 * Keys are "<architecture>.<name>".  The converter drops some facts of config.json: a tied head is
 * known by the absence of output.weight, biases by their tensors, and llama3 rotary scaling by the
 * tensor rope_freqs.weight, whose divisors are matched against the scaling's formula. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kern/dequant.h"
#include "model/config_check.h"
#include "model/config_rope.h"
#include "model/family.h"
#include "model/rope.h"

struct gguf_source {
    const struct gguf_file *f;
    const char *where;
    char arch[40];
};

static const char *full_key(const struct gguf_source *s, char buf[96], const char *name) {
    snprintf(buf, 96, "%s.%s", s->arch, name);
    return buf;
}

/* Integer in [min, max]; absent: *out stays, or MIL_INPUT where required. */
static enum mil_status get_i64(const struct gguf_source *s, const char *name, bool required,
                               int64_t min, int64_t max, int64_t *out, struct mil_error *err) {
    char key[96];
    int64_t v;
    full_key(s, key, name);
    if (!gguf_find(s->f, key)) {
        if (!required) return MIL_OK;
        return error_set(err, MIL_INPUT, "%s: metadata key %s is missing", s->where, key);
    }
    if (!gguf_get_i64(s->f, key, &v))
        return error_set(err, MIL_UNSUPPORTED, "%s: metadata key %s is no single integer", s->where,
                         key);
    if (v < min || v > max)
        return error_set(err, MIL_INPUT,
                         "%s: %s is %" PRId64 ", outside [%" PRId64 ", %" PRId64 "]", s->where, key,
                         v, min, max);
    *out = v;
    return MIL_OK;
}

static enum mil_status get_f64(const struct gguf_source *s, const char *name, bool required,
                               double min, double max, double *out, struct mil_error *err) {
    char key[96];
    double v;
    full_key(s, key, name);
    if (!gguf_find(s->f, key)) {
        if (!required) return MIL_OK;
        return error_set(err, MIL_INPUT, "%s: metadata key %s is missing", s->where, key);
    }
    if (!gguf_get_f64(s->f, key, &v))
        return error_set(err, MIL_INPUT, "%s: metadata key %s is no number", s->where, key);
    if (!(v >= min && v <= max))
        return error_set(err, MIL_INPUT, "%s: %s is %g, outside [%g, %g]", s->where, key, v, min,
                         max);
    *out = v;
    return MIL_OK;
}

/* Keys of other models of the same architecture name, refused unless they do nothing. */
static enum mil_status refuse_keys(const struct gguf_source *s, struct mil_error *err) {
    static const struct {
        const char *name;
        double neutral;
    } keys[] = {
        {"expert_count", 0},
        {"logit_scale", 1},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"attention.scale", 0},
        {"attn_logit_softcapping", 0},
        {"attention.clamp_kqv", 0},
        {"final_logit_softcapping", 0},
        {"rope.scaling.attn_factor", 1},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[96];
        double v;
        if (!gguf_find(s->f, full_key(s, key, keys[i].name))) continue;
        if (gguf_get_f64(s->f, key, &v) && v == keys[i].neutral) continue;
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: the metadata key %s is set, and this program does not do what it "
                         "asks for",
                         s->where, key);
    }
    return MIL_OK;
}

/* The embedding's rows are the vocabulary; the key vocab_size may be absent. */
static enum mil_status read_vocab(const struct gguf_source *s, struct model_config *c,
                                  struct mil_error *err) {
    const struct gguf_tensor *embed = gguf_find_tensor(s->f, "token_embd.weight");
    if (!embed)
        return error_set(err, MIL_INPUT, "%s: there is no tensor token_embd.weight", s->where);
    if (embed->ndim != 2 || embed->ne[1] < 1 || embed->ne[1] > MODEL_MAX_VOCAB)
        return error_set(err, MIL_INPUT,
                         "%s: token_embd.weight has %" PRId64 " rows, outside [1, %d]", s->where,
                         embed->ne[1], MODEL_MAX_VOCAB);
    c->vocab = embed->ne[1];
    return MIL_OK;
}

static enum mil_status read_sizes(const struct gguf_source *s, struct model_config *c,
                                  struct mil_error *err) {
    TRY(read_vocab(s, c, err));
    TRY(get_i64(s, "embedding_length", true, 1, MODEL_MAX_WIDTH, &c->width, err));
    TRY(get_i64(s, "block_count", true, 1, MODEL_MAX_LAYERS, &c->layers, err));
    TRY(get_i64(s, "attention.head_count", true, 1, MODEL_MAX_HEADS, &c->heads, err));
    TRY(get_i64(s, "feed_forward_length", true, 1, MODEL_MAX_WIDTH, &c->ffn, err));
    c->kv_heads = c->heads;
    TRY(get_i64(s, "attention.head_count_kv", false, 1, c->heads, &c->kv_heads, err));
    c->head_dim = 0;
    TRY(get_i64(s, "attention.key_length", false, 1, MODEL_MAX_HEAD_DIM, &c->head_dim, err));
    if (c->head_dim == 0 && c->width % c->heads != 0)
        return error_set(err, MIL_INPUT,
                         "%s: embedding_length %" PRId64 " is not a multiple of head_count %" PRId64
                         " and there is no attention.key_length",
                         s->where, c->width, c->heads);
    if (c->head_dim == 0) c->head_dim = c->width / c->heads;
    int64_t same = c->head_dim, rotary = c->head_dim;
    TRY(get_i64(s, "attention.value_length", false, 1, MODEL_MAX_HEAD_DIM, &same, err));
    TRY(get_i64(s, "rope.dimension_count", false, 1, MODEL_MAX_HEAD_DIM, &rotary, err));
    if (same != c->head_dim || rotary != c->head_dim)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: head width %" PRId64 ", value width %" PRId64
                         ", rotary width %" PRId64 ": widths that differ are not supported",
                         s->where, c->head_dim, same, rotary);
    c->max_positions = 2048;
    TRY(get_i64(s, "context_length", false, 1, MODEL_MAX_POSITIONS, &c->max_positions, err));
    TRY(get_i64(s, "attention.sliding_window", false, 0, MODEL_MAX_POSITIONS, &c->window, err));
    return model_config_check(c, s->where, err);
}

/* The constants of Llama 3.1 and later; only the factor differs between them (8, 32). */
static bool divisors_are_llama3(const struct gguf_tensor *t, int64_t head_dim,
                                struct rope_config *r) {
    float stored[MODEL_MAX_HEAD_DIM / 2];
    double want[MODEL_MAX_HEAD_DIM / 2];
    int64_t n = head_dim / 2;
    if (t->dtype != DT_F32 || t->ndim != 1 || t->ne[0] != n) return false;
    dequant_to_f32(DT_F32, t->data, n, stored);
    *r = (struct rope_config){.kind = ROPE_LLAMA3,
                              .theta = r->theta,
                              .factor = 1,
                              .low_freq_factor = 1,
                              .high_freq_factor = 4,
                              .original_positions = 8192};
    for (int64_t i = 0; i < n; i++)
        if (stored[i] > r->factor && stored[i] <= ROPE_MAX_FACTOR) r->factor = stored[i];
    rope_llama3_divisors(r, head_dim, want);
    /* The converter works in f32: 1e-5 is some hundred units in the last place. */
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(stored[i] - want[i]) <= 1e-5 * want[i])) return false;
    return true;
}

static enum mil_status read_rope(const struct gguf_source *s, struct model_config *c,
                                 struct mil_error *err) {
    struct rope_config *r = &c->rope;
    struct gguf_str type = {"none", 4};
    char key[96];
    *r = (struct rope_config){.kind = ROPE_PLAIN, .theta = 10000.0, .factor = 1};
    TRY(get_f64(s, "rope.freq_base", false, 1, ROPE_MAX_THETA, &r->theta, err));
    gguf_get_str(s->f, full_key(s, key, "rope.scaling.type"), &type);
    TRY(get_f64(s, "rope.scale_linear", false, 1e-6, ROPE_MAX_FACTOR, &r->factor, err));
    if (type.n == 6 && memcmp(type.data, "linear", 6) == 0)
        TRY(get_f64(s, "rope.scaling.factor", true, 1e-6, ROPE_MAX_FACTOR, &r->factor, err));
    else if (!(type.n == 4 && memcmp(type.data, "none", 4) == 0))
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: %s \"%.*s\" is not supported; known: none, linear", s->where, key,
                         type.n < 40 ? (int)type.n : 40, type.data);
    if (r->factor != 1) r->kind = ROPE_LINEAR;
    const struct gguf_tensor *divisors = gguf_find_tensor(s->f, "rope_freqs.weight");
    if (!divisors) return MIL_OK;
    if (r->kind == ROPE_PLAIN && divisors_are_llama3(divisors, c->head_dim, r)) return MIL_OK;
    return error_set(err, MIL_UNSUPPORTED,
                     "%s: rope_freqs.weight holds other divisors than llama3 scaling with "
                     "low_freq_factor 1, high_freq_factor 4 and 8192 original positions gives",
                     s->where);
}

static bool has_tensor(const struct gguf_source *s, const char *name) {
    return gguf_find_tensor(s->f, name) != NULL;
}

static enum mil_status read_structure(const struct gguf_source *s, const struct family *f,
                                      struct model_config *c, struct mil_error *err) {
    c->tied_head = !has_tensor(s, "output.weight");
    c->qkv_bias = has_tensor(s, "blk.0.attn_q.bias");
    c->o_bias = has_tensor(s, "blk.0.attn_output.bias");
    c->mlp_bias = has_tensor(s, "blk.0.ffn_gate.bias");
    if ((f->qkv_bias ? !c->qkv_bias || c->o_bias : c->qkv_bias != c->o_bias) ||
        (c->mlp_bias && !f->mlp_bias_key))
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: the biases of blk.0 are not those of a %s model (q %s, output %s, "
                         "ffn %s)",
                         s->where, f->name, c->qkv_bias ? "yes" : "no", c->o_bias ? "yes" : "no",
                         c->mlp_bias ? "yes" : "no");
    if (c->window > 0 && f->window == WINDOW_NEVER) {
        /* Only Mistral has a window among those that GGUF calls llama. */
        if (c->qkv_bias || c->mlp_bias)
            return error_set(err, MIL_UNSUPPORTED, "%s: a sliding window together with biases",
                             s->where);
        snprintf(c->family, sizeof c->family, "mistral");
    }
    return MIL_OK;
}

static enum mil_status read_tokens(const struct gguf_source *s, struct model_config *c,
                                   struct mil_error *err) {
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    int64_t id;
    c->bos = -1;
    if (gguf_get_i64(s->f, "tokenizer.ggml.bos_token_id", &id)) {
        if (id < -1 || id >= c->vocab)
            return error_set(err, MIL_INPUT,
                             "%s: tokenizer.ggml.bos_token_id %" PRId64
                             " is outside the vocabulary of %" PRId64,
                             s->where, id, c->vocab);
        c->bos = (int32_t)id;
    }
    for (size_t i = 0; i < 2; i++)
        if (gguf_get_i64(s->f, ends[i], &id)) TRY(model_config_add_eos(c, id, s->where, err));
    return MIL_OK;
}

enum mil_status model_config_from_gguf(const struct gguf_file *f, const char *where,
                                       struct model_config *out, struct mil_error *err) {
    struct model_config c = {.norm_eps = 1e-6, .init_range = 0.02};
    struct gguf_source s = {.f = f, .where = where};
    const struct family *family;
    struct gguf_str arch;
    if (!gguf_get_str(f, "general.architecture", &arch))
        return error_set(err, MIL_INPUT, "%s: metadata key general.architecture is missing", where);
    snprintf(s.arch, sizeof s.arch, "%.*s", arch.n < 39 ? (int)arch.n : 39, arch.data);
    TRY(family_of_gguf(s.arch, where, &family, err));
    snprintf(c.family, sizeof c.family, "%s", family->name);
    TRY(refuse_keys(&s, err));
    TRY(read_sizes(&s, &c, err));
    TRY(get_f64(&s, "attention.layer_norm_rms_epsilon", true, 0, 1, &c.norm_eps, err));
    TRY(read_rope(&s, &c, err));
    TRY(read_structure(&s, family, &c, err));
    TRY(read_tokens(&s, &c, err));
    *out = c;
    return MIL_OK;
}
