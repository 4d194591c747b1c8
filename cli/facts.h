/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h - what train and validate print about a configuration. */
#ifndef MILORA_CLI_FACTS_H
#define MILORA_CLI_FACTS_H

#include "cli.h"

/* Model, method, data, steps, backend; PEFT's line; one sample with the supervised part marked. */
void facts_print(FILE *f, const struct mil_train_facts *facts);
struct json_t *facts_json(const struct mil_train_facts *facts);
void plan_print(FILE *f, const struct mil_train_plan *plan);
struct json_t *plan_json(const struct mil_train_plan *plan);

/* The configuration of "[CONFIG.yaml] key=value ...", with --threads and --dtype on top. */
enum mil_status cli_config(const struct rest *words, const char *dtype, mil_config **out,
                           struct mil_error *err);
/* The keys, for --help. */
void keys_print(FILE *f);

#endif
