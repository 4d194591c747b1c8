/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_later.c - verbs of the command line's contract that this version does not have: they are
 * known, say so plainly, and exit 2. */
#include "verbs.h"

struct later_args {
    struct rest words;
};

static enum mil_status run_compare(const void *p, struct mil_error *err) {
    (void)p;
    return cli_fail(err, MIL_UNSUPPORTED,
                    "comparison plans are not part of version %s; run 'milora train' and 'milora "
                    "eval' once a method",
                    mil_version());
}

static const struct option later_positionals[] = {
    {.name = "ARGUMENTS",
     .type = OPTION_REST,
     .offset = offsetof(struct later_args, words),
     .help = "whatever a later version takes"},
    OPTION_END,
};
static const struct option later_options[] = {OPTION_END};
const struct verb verb_compare = {
    .name = "compare",
    .summary = "methods x seeds over one recipe (not part of this version)",
    .example = "milora compare plan.yaml",
    .positionals = later_positionals,
    .options = later_options,
    .bytes = sizeof(struct later_args),
    .run = run_compare,
    .raw = true,
};
