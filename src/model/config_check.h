/* SPDX-License-Identifier: Apache-2.0 */
/* config_check.h - what the two readers of a configuration share (internal to src/model). */
#ifndef MIL_MODEL_CONFIG_CHECK_H
#define MIL_MODEL_CONFIG_CHECK_H

#include "backend/backend.h"
#include "model/config.h"

#define MODEL_MAX_HEADS 4096
#define MODEL_MAX_HEAD_DIM ATTN_MAX_HEAD_DIM /* what the attention kernels hold */

/* Relations between fields: heads divide, head_dim even, products within the limits.  Names of the
 * offending values as config.json spells them. */
enum mil_status model_config_check(const struct model_config *c, const char *where,
                                   struct mil_error *err);
/* Append an end-of-sequence id unless it is there already. MIL_INPUT when the list is full or the
 * id is outside the vocabulary. */
enum mil_status model_config_add_eos(struct model_config *c, int64_t id, const char *where,
                                     struct mil_error *err);
/* eos_token_id of config.json or generation_config.json: an integer, a list of them, or null. */
enum mil_status model_config_eos_from_json(struct model_config *c, const json_t *root,
                                           const char *where, struct mil_error *err);

#endif
