/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_gguf.c - the tensors of a GGUF file bound to a configuration, under Hugging Face's
 * names. */
#include <inttypes.h>

#include "model/checkpoint_bind.h"
#include "model/family.h"

/* Heads by which the rows of this weight are permuted, 0: they are not. */
static int64_t permuted_heads(const struct family *f, const struct model_config *c,
                              const struct weight_slot *s) {
    if (!f->gguf_permuted || (s->kind != WEIGHT_LINEAR && s->kind != WEIGHT_BIAS)) return 0;
    if (s->module == MODULE_Q) return c->heads;
    return s->module == MODULE_K ? c->kv_heads : 0;
}

static enum mil_status bind_slot(struct checkpoint *c, const struct family *f,
                                 const struct weight_slot *s, struct mil_error *err) {
    struct weight_view *v = checkpoint_view(c, s);
    char name[WEIGHT_NAME_CAP];
    view_describe(v, s);
    weight_name_gguf(s, name);
    const struct gguf_tensor *t = gguf_find_tensor(c->gguf, name);
    if (!t) return error_set(err, MIL_INPUT, "%s: tensor %s is missing", c->path, name);
    /* Unused dimensions are 1, so a vector is [cols, 1, 1, 1]. */
    if (t->ne[0] != s->cols || t->ne[1] != s->rows || t->ne[2] != 1 || t->ne[3] != 1)
        return error_set(err, MIL_INPUT,
                         "%s: tensor %s has dimensions [%" PRId64 ", %" PRId64 ", %" PRId64
                         ", %" PRId64 "]; the metadata want [%" PRId64 ", %" PRId64 "]",
                         c->path, name, t->ne[0], t->ne[1], t->ne[2], t->ne[3], s->cols, s->rows);
    v->head_permuted = permuted_heads(f, &c->config, s);
    bool by_element = s->kind == WEIGHT_BIAS && v->head_permuted > 0;
    if (!dtype_is_float(t->dtype) || (by_element && dtype_block_elems(t->dtype) != 1))
        return error_set(err, MIL_UNSUPPORTED, "%s: tensor %s stored as %s is not supported",
                         c->path, name, dtype_name(t->dtype));
    v->data = t->data;
    v->dtype = t->dtype;
    return MIL_OK;
}

static enum mil_status refuse_unknown(const struct checkpoint *c, struct mil_error *err) {
    static const char rope[] = "rope_freqs.weight"; /* became part of the configuration */
    struct name_set known = {0};
    enum mil_status st = name_set_init(&known, &c->config, weight_name_gguf, err);
    for (size_t i = 0; st == MIL_OK && i < gguf_tensor_count(c->gguf); i++) {
        struct gguf_str name = gguf_tensor_at(c->gguf, i)->name;
        if (name_set_has(&known, name.data, name.n)) continue;
        if (name.n == sizeof rope - 1 && memcmp(name.data, rope, name.n) == 0) continue;
        st = error_set(err, MIL_UNSUPPORTED,
                       "%s: tensor %.*s has no place in a %s model with these metadata", c->path,
                       name.n < 100 ? (int)name.n : 100, name.data, c->config.family);
    }
    name_set_release(&known);
    return st;
}

enum mil_status checkpoint_bind_gguf(struct checkpoint *c, struct mil_error *err) {
    size_t n = weight_count(&c->config);
    /* In GGUF a Mistral is a llama too, whatever the configuration calls it. */
    bool qwen = strcmp(c->config.family, "qwen2") == 0;
    const struct family *f = family_named(qwen ? "qwen2" : "llama");
    for (size_t i = 0; i < n; i++) {
        struct weight_slot s = weight_slot_at(&c->config, i);
        TRY(bind_slot(c, f, &s, err));
    }
    return refuse_unknown(c, err);
}
