/* SPDX-License-Identifier: Apache-2.0 */
/* verbs.h - every verb, one cmd_<verb>.c each. */
#ifndef MILORA_CLI_VERBS_H
#define MILORA_CLI_VERBS_H

#include "cli.h"

extern const struct verb verb_analyze, verb_chat, verb_compare, verb_complete, verb_env, verb_eval,
    verb_export, verb_generate, verb_help, verb_init, verb_inspect, verb_logits, verb_merge,
    verb_recipes, verb_tokenize, verb_train, verb_validate;

#endif
