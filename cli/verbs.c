/* SPDX-License-Identifier: Apache-2.0 */
/* verbs.c - the table of verbs, in the order of help. */
#include "verbs.h"

const struct verb *const verbs[] = {
    &verb_env,    &verb_inspect, &verb_tokenize, &verb_logits,  &verb_generate, &verb_chat,
    &verb_init,   &verb_train,   &verb_validate, &verb_recipes, &verb_eval,     &verb_merge,
    &verb_export, &verb_analyze, &verb_compare,  &verb_help,    &verb_complete, NULL,
};
