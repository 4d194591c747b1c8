/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_help.c - `help [VERB]`, and the hidden ways to the generated texts: `help --man`, `help --markdown`,
 * `__complete SHELL` (used by the install step). */
#include "verbs.h"

struct help_args {
    const char *verb;
    bool man, markdown;
};

static const char *const *choices_verbs(void) {
    static const char *names[64];
    size_t n = 0;
    for (size_t i = 0; verbs[i] && n < 63; i++)
        if (!verbs[i]->hidden) names[n++] = verbs[i]->name;
    return names;
}

static enum mil_status run_help(const void *p, struct mil_error *err) {
    (void)err;
    const struct help_args *args = p;
    if (args->man)
        man_page(stdout);
    else if (args->markdown)
        markdown_reference(stdout);
    else if (args->verb)
        help_verb(stdout, verb_find(args->verb));
    else
        help_overview(stdout);
    return MIL_OK;
}

static const struct option help_positionals[] = {
    {.name = "VERB",
     .type = OPTION_TEXT,
     .offset = offsetof(struct help_args, verb),
     .help = "the verb to tell about",
     .choices = choices_verbs},
    OPTION_END,
};
static const struct option help_options[] = {
    {.name = "man",
     .type = OPTION_FLAG,
     .offset = offsetof(struct help_args, man),
     .help = "print the manual page, milora(1)"},
    {.name = "markdown",
     .type = OPTION_FLAG,
     .offset = offsetof(struct help_args, markdown),
     .help = "print the reference of docs/cli.md"},
    OPTION_END,
};
const struct verb verb_help = {
    .name = "help",
    .summary = "the list of verbs, or a verb's arguments and options",
    .example = "milora help train",
    .positionals = help_positionals,
    .options = help_options,
    .bytes = sizeof(struct help_args),
    .run = run_help,
};

struct complete_args {
    const char *shell;
};

static const char *const *choices_shells(void) {
    static const char *const names[] = {"bash", "zsh", "fish", NULL};
    return names;
}

static enum mil_status run_complete(const void *p, struct mil_error *err) {
    const struct complete_args *args = p;
    if (complete_script(stdout, args->shell)) return MIL_OK;
    return cli_usage(err, "'%s': no such shell", args->shell);
}

static const struct option complete_positionals[] = {
    {.name = "SHELL",
     .type = OPTION_TEXT,
     .offset = offsetof(struct complete_args, shell),
     .help = "the shell",
     .choices = choices_shells,
     .required = true},
    OPTION_END,
};
static const struct option no_options[] = {OPTION_END};
const struct verb verb_complete = {
    .name = "__complete",
    .summary = "the completion script of a shell",
    .example = "milora __complete bash >~/.local/share/bash-completion/completions/milora",
    .positionals = complete_positionals,
    .options = no_options,
    .bytes = sizeof(struct complete_args),
    .run = run_complete,
    .hidden = true,
};
