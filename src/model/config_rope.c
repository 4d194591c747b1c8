/* SPDX-License-Identifier: Apache-2.0 */
/* config_rope.c - `rope_theta`, `rope_scaling` and `rope_parameters`.
 *
 * Older files hold rope_theta at the top and an optional object rope_scaling; newer ones put both
 * into rope_parameters.  Where both objects occur, rope_scaling wins, as in transformers. */
#include "model/config_rope.h"

#include <string.h>

#include "io/json.h"

static const char *const members[] = {"rope_type",
                                      "type",
                                      "rope_theta",
                                      "factor",
                                      "low_freq_factor",
                                      "high_freq_factor",
                                      "finetuned",
                                      "original_max_position_embeddings",
                                      "partial_rotary_factor"};

static enum mil_status refuse_members(const json_t *scaling, const char *where,
                                      struct mil_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)scaling, key, value) {
        bool known = json_is_null(value);
        for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
            known = known || strcmp(members[i], key) == 0;
        if (!known)
            return error_set(err, MIL_UNSUPPORTED, "%s: member %.60s is not supported", where, key);
    }
    const json_t *partial = json_object_get(scaling, "partial_rotary_factor");
    if (partial && !json_is_null(partial) && json_number_value(partial) != 1.0)
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: partial_rotary_factor other than 1 is not supported", where);
    return MIL_OK;
}

static enum mil_status kind_of(const json_t *scaling, const char *where, enum rope_kind *kind,
                               struct mil_error *err) {
    const char *type = NULL;
    TRY(json_member_str(scaling, where, "type", false, &type, err));
    TRY(json_member_str(scaling, where, "rope_type", false, &type, err));
    if (!type && json_object_get(scaling, "factor"))
        return error_set(err, MIL_INPUT, "%s: a factor without rope_type", where);
    if (!type || strcmp(type, "default") == 0)
        *kind = ROPE_PLAIN;
    else if (strcmp(type, "linear") == 0)
        *kind = ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        *kind = ROPE_LLAMA3;
    else
        return error_set(err, MIL_UNSUPPORTED,
                         "%s: rope_type \"%.40s\" is not supported; known: default, linear, llama3",
                         where, type);
    return MIL_OK;
}

static enum mil_status read_scaling(const json_t *scaling, const char *where, int64_t max_positions,
                                    struct rope_config *r, struct mil_error *err) {
    TRY(refuse_members(scaling, where, err));
    TRY(kind_of(scaling, where, &r->kind, err));
    TRY(json_member_f64(scaling, where, "rope_theta", false, 1, ROPE_MAX_THETA, &r->theta, err));
    if (r->kind == ROPE_PLAIN) return MIL_OK;
    TRY(json_member_f64(scaling, where, "factor", true, 1e-6, ROPE_MAX_FACTOR, &r->factor, err));
    if (r->kind == ROPE_LINEAR) return MIL_OK;
    TRY(json_member_f64(scaling, where, "low_freq_factor", true, 1e-6, ROPE_MAX_FACTOR,
                        &r->low_freq_factor, err));
    TRY(json_member_f64(scaling, where, "high_freq_factor", true, 1e-6, ROPE_MAX_FACTOR,
                        &r->high_freq_factor, err));
    r->original_positions = max_positions;
    return json_member_i64(scaling, where, "original_max_position_embeddings", false, 1,
                           MODEL_MAX_POSITIONS, &r->original_positions, err);
}

enum mil_status rope_config_check(const struct rope_config *r, const char *where,
                                  struct mil_error *err) {
    if (r->kind == ROPE_LLAMA3 && !(r->low_freq_factor < r->high_freq_factor))
        return error_set(err, MIL_INPUT, "%s: low_freq_factor %g is not below high_freq_factor %g",
                         where, r->low_freq_factor, r->high_freq_factor);
    return MIL_OK;
}

enum mil_status rope_config_from_json(const json_t *root, const char *where, int64_t max_positions,
                                      struct rope_config *out, struct mil_error *err) {
    struct rope_config r = {.kind = ROPE_PLAIN, .theta = 10000.0, .factor = 1};
    TRY(json_member_f64(root, where, "rope_theta", false, 1, ROPE_MAX_THETA, &r.theta, err));
    const char *key = "rope_scaling";
    const json_t *scaling = json_object_get(root, key);
    if (!scaling || json_is_null(scaling)) scaling = json_object_get(root, key = "rope_parameters");
    if (scaling && !json_is_null(scaling)) {
        enum mil_status st = MIL_OK;
        if (!json_is_object(scaling))
            return error_set(err, MIL_INPUT, "%s: %s is no object", where, key);
        st = read_scaling(scaling, key, max_positions, &r, err);
        if (st == MIL_OK) st = rope_config_check(&r, key, err);
        if (st != MIL_OK) {
            error_prefix(err, "%s: ", where);
            return st;
        }
    }
    *out = r;
    return MIL_OK;
}
