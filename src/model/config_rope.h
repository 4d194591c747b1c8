/* SPDX-License-Identifier: Apache-2.0 */
/* config_rope.h - the rotary embedding's part of config.json (internal to src/model). */
#ifndef MIL_MODEL_CONFIG_ROPE_H
#define MIL_MODEL_CONFIG_ROPE_H

#include "model/config.h"

/* Limits of the numbers; theta and the factors are positive. */
#define ROPE_MAX_THETA 1e12
#define ROPE_MAX_FACTOR 1e6

/* Reads rope_theta with rope_scaling (the older spelling), or rope_parameters (the newer one). A
 * type other than default, linear and llama3, or a member that these do not have, is
 * MIL_UNSUPPORTED by name. */
enum mil_status rope_config_from_json(const json_t *root, const char *where, int64_t max_positions,
                                      struct rope_config *out, struct mil_error *err);
/* low < high, both finite and positive, and so on; where as in the messages of config.h. */
enum mil_status rope_config_check(const struct rope_config *r, const char *where,
                                  struct mil_error *err);

#endif
