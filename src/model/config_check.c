/* SPDX-License-Identifier: Apache-2.0 */
/* config_check.c - checks that hold for a configuration from any source, and its list of
 * end-of-sequence ids. */
#include "model/config_check.h"

#include <inttypes.h>

enum mil_status model_config_check(const struct model_config *c, const char *where,
                                   struct mil_error *err) {
    if (c->heads % c->kv_heads != 0)
        return error_set(err, MIL_INPUT,
                         "%s: num_attention_heads %" PRId64
                         " is not a multiple of num_key_value_heads %" PRId64,
                         where, c->heads, c->kv_heads);
    if (c->head_dim % 2 != 0)
        return error_set(err, MIL_INPUT,
                         "%s: head_dim %" PRId64 " is odd; rotary embedding needs pairs", where,
                         c->head_dim);
    if (c->heads * c->head_dim > MODEL_MAX_WIDTH)
        return error_set(err, MIL_INPUT,
                         "%s: num_attention_heads %" PRId64 " x head_dim %" PRId64
                         " exceeds the limit of %d",
                         where, c->heads, c->head_dim, MODEL_MAX_WIDTH);
    return MIL_OK;
}

enum mil_status model_config_add_eos(struct model_config *c, int64_t id, const char *where,
                                     struct mil_error *err) {
    if (id < 0 || id >= c->vocab)
        return error_set(err, MIL_INPUT,
                         "%s: eos_token_id %" PRId64 " is outside the vocabulary of %" PRId64,
                         where, id, c->vocab);
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return MIL_OK;
    if (c->n_eos == MODEL_MAX_EOS)
        return error_set(err, MIL_INPUT, "%s: more than %d different eos_token_id", where,
                         MODEL_MAX_EOS);
    c->eos[c->n_eos++] = (int32_t)id;
    return MIL_OK;
}

enum mil_status model_config_eos_from_json(struct model_config *c, const json_t *root,
                                           const char *where, struct mil_error *err) {
    const json_t *v = json_object_get(root, "eos_token_id");
    if (!v || json_is_null(v)) return MIL_OK;
    if (json_is_integer(v)) return model_config_add_eos(c, json_integer_value(v), where, err);
    if (!json_is_array(v))
        return error_set(err, MIL_INPUT, "%s: eos_token_id is neither an integer nor a list",
                         where);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id))
            return error_set(err, MIL_INPUT, "%s: eos_token_id[%zu] is no integer", where, i);
        TRY(model_config_add_eos(c, json_integer_value(id), where, err));
    }
    return MIL_OK;
}
