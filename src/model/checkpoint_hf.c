/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_hf.c - the weights of a Hugging Face directory bound to a configuration.
 *
 * Harmless extras are the rotary frequencies that old checkpoints carry, and a copy of the head
 * where the configuration ties it to the embedding. */
#include <inttypes.h>
#include <stdio.h>

#include "core/str.h"
#include "model/checkpoint_bind.h"

static const char *shape_text(const struct st_tensor *t, char buf[120]) {
    size_t used = (size_t)snprintf(buf, 120, "[");
    for (int i = 0; i < t->ndim && used < 100; i++)
        used += (size_t)snprintf(buf + used, 120 - used, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    snprintf(buf + used, 120 - used, "]");
    return buf;
}

static enum mil_status bind_slot(struct checkpoint *c, const struct weight_slot *s,
                                 struct mil_error *err) {
    struct weight_view *v = checkpoint_view(c, s);
    view_describe(v, s);
    const struct st_tensor *t = st_find(c->safetensors, v->name);
    if (!t)
        return error_set(err, MIL_INPUT, "%s: tensor %s is missing%s", c->path, v->name,
                         s->kind == WEIGHT_HEAD ? " (config.json does not tie the embeddings)"
                                                : "");
    bool vector = weight_kind_is_vector(s->kind);
    char shape[120];
    if (vector ? (t->ndim != 1 || t->shape[0] != s->cols)
               : (t->ndim != 2 || t->shape[0] != s->rows || t->shape[1] != s->cols)) {
        if (vector)
            return error_set(err, MIL_INPUT,
                             "%s: tensor %s has shape %s; the configuration wants [%" PRId64 "]",
                             c->path, v->name, shape_text(t, shape), s->cols);
        return error_set(err, MIL_INPUT,
                         "%s: tensor %s has shape %s; the configuration wants [%" PRId64
                         ", %" PRId64 "]",
                         c->path, v->name, shape_text(t, shape), s->rows, s->cols);
    }
    if (!dtype_is_float(t->dtype))
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: tensor %s is stored as %s, which is no floating-point type", c->path,
                         v->name, dtype_name(t->dtype));
    v->data = t->data;
    v->dtype = t->dtype;
    return MIL_OK;
}

static bool is_harmless(const struct checkpoint *c, const char *name) {
    return str_ends(name, "rotary_emb.inv_freq") ||
           (c->config.tied_head && strcmp(name, "lm_head.weight") == 0);
}

static enum mil_status refuse_unknown(const struct checkpoint *c, struct mil_error *err) {
    struct name_set known = {0};
    enum mil_status st = name_set_init(&known, &c->config, weight_name_hf, err);
    for (size_t i = 0; st == MIL_OK && i < st_count(c->safetensors); i++) {
        const char *name = st_at(c->safetensors, i)->name;
        if (name_set_has(&known, name, strlen(name)) || is_harmless(c, name)) continue;
        st = error_set(err, MIL_UNSUPPORTED,
                       "%s: tensor %.120s has no place in a %s model of this configuration",
                       c->path, name, c->config.family);
    }
    name_set_release(&known);
    return st;
}

enum mil_status checkpoint_bind_hf(struct checkpoint *c, struct mil_error *err) {
    size_t n = weight_count(&c->config);
    for (size_t i = 0; i < n; i++) {
        struct weight_slot s = weight_slot_at(&c->config, i);
        TRY(bind_slot(c, &s, err));
    }
    return refuse_unknown(c, err);
}
