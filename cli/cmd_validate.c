/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_validate.c - `validate`: every key, path and pattern of a configuration, and its data. */
#include "panel.h"
#include "verbs.h"

struct validate_args {
    struct rest words;
    bool json;
};

static enum mil_status run_validate(const void *p, struct mil_error *err) {
    const struct validate_args *args = p;
    mil_config *config = NULL;
    struct mil_train_facts facts = {0};
    enum mil_status st = panel_config(&args->words, NULL, &config, err);
    if (st == MIL_OK) st = mil_train_validate(config, &facts, err);
    if (st == MIL_OK && args->json)
        st = cli_print_json(panel_facts_json(&facts), err);
    else if (st == MIL_OK) {
        panel_print_facts(stdout, &facts);
        printf("the configuration is valid\n");
    }
    mil_train_facts_release(&facts);
    mil_config_free(&config);
    return st;
}

static const struct option validate_positionals[] = {
    {.name = "CONFIG.yaml key=value ...",
     .type = OPTION_REST,
     .offset = offsetof(struct validate_args, words),
     .help = "a configuration, changed by the assignments after it",
     .files = FILES_ANY},
    OPTION_END,
};
static const struct option validate_options[] = {OPTION_JSON(validate_args), OPTION_END};
const struct verb verb_validate = {
    .name = "validate",
    .summary = "checks every key, path and pattern of a configuration and counts its data",
    .example = "milora validate my.yaml",
    .positionals = validate_positionals,
    .options = validate_options,
    .bytes = sizeof(struct validate_args),
    .run = run_validate,
    .keys = true,
    .more = panel_print_keys,
};
