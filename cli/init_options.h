/* SPDX-License-Identifier: Apache-2.0 */
/* init_options.h - values of init's options that are lists, and the comparison of all methods. */
#ifndef MILORA_CLI_INIT_OPTIONS_H
#define MILORA_CLI_INIT_OPTIONS_H

#include "cli.h"

/* "q_proj=8,layers.0.*=4"; the patterns lie in text. */
struct pattern_list {
    char text[4096];
    struct mil_pattern items[64];
    size_t n;
};
/* value NULL: none.  MIL_USAGE, which names the option. */
enum mil_status init_patterns(const char *option, const char *value, struct pattern_list *out,
                              struct mil_error *err);
/* "0,1,8-11" */
struct layer_list {
    int64_t items[4096];
    size_t n;
};
enum mil_status init_layers(const char *option, const char *value, struct layer_list *out,
                            struct mil_error *err);

/* init --method all: the table, or JSON with every module. */
enum mil_status init_compare(const struct mil_adapter_options *options, bool json,
                             struct mil_error *err);

#endif
