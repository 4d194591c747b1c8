/* SPDX-License-Identifier: Apache-2.0 */
/* panel.h - what train and validate print about a configuration. */
#ifndef MILORA_CLI_PANEL_H
#define MILORA_CLI_PANEL_H

#include "cli.h"

/* Model, method, data, steps, backend; PEFT's line; one sample with the supervised part marked. */
void panel_print_facts(FILE *f, const struct mil_train_facts *facts);
struct json_t *panel_facts_json(const struct mil_train_facts *facts);
void panel_print_plan(FILE *f, const struct mil_train_plan *plan);
struct json_t *panel_plan_json(const struct mil_train_plan *plan);
/* Where the steps' time went: a table by phase and operation. */
void panel_print_profile(FILE *f, const struct mil_train_profile *profile);

/* The configuration of "[CONFIG.yaml] key=value ...", with --threads and --dtype on top. */
enum mil_status panel_config(const struct rest *words, const char *dtype, mil_config **out,
                             struct mil_error *err);
/* The keys, for --help. */
void panel_print_keys(FILE *f);

#endif
