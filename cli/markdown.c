/* SPDX-License-Identifier: Apache-2.0 */
/* markdown.c - the reference part of docs/cli.md, from the same tables as --help. */
#include <string.h>

#include "cli.h"

/* Text of a table's cell: a bar would end it. */
static void cell(FILE *f, const char *s) {
    for (; *s; s++) fputs(*s == '|' ? "\\|" : (char[2]){*s}, f);
}

static void row(FILE *f, const struct option *o) {
    if (!o->value && o->type != OPTION_FLAG)
        fprintf(f, "| `%s` | ", o->name);
    else if (o->takes)
        fprintf(f, "| `--%s [%s]` | ", o->name, o->value);
    else
        fprintf(f, o->value ? "| `--%s %s` | " : "| `--%s` | ", o->name, o->value);
    cell(f, o->help);
    if (o->choices) {
        const char *const *names = o->choices();
        for (size_t i = 0; names[i]; i++) fprintf(f, i ? ", `%s`" : ": `%s`", names[i]);
    }
    fputs(" | ", f);
    if (o->fallback && !o->takes)
        fprintf(f, "`%s`", o->fallback);
    else if (o->required)
        fputs("required", f);
    fputs(" |\n", f);
}

static void verb_section(FILE *f, const struct verb *verb) {
    fprintf(f, "\n### milora %s\n\n`milora %s", verb->name, verb->name);
    for (const struct option *p = verb->positionals; p && p->name; p++)
        fprintf(f, p->required ? " %s" : " [%s]", p->name);
    fprintf(f, " [options]`: %s.\n", verb->summary);
    if (verb->about) fprintf(f, "\n```\n%s\n```\n", verb->about);
    if ((verb->positionals && verb->positionals->name) || verb->options->name) {
        fputs("\n| argument | meaning | default |\n|---|---|---|\n", f);
        for (const struct option *p = verb->positionals; p && p->name; p++) row(f, p);
        for (const struct option *o = verb->options; o->name; o++) row(f, o);
    }
    fprintf(f, "\n```sh\n%s\n```\n", verb->example);
}

void markdown_reference(FILE *f) {
    fputs("Every verb takes:\n\n| option | meaning | default |\n|---|---|---|\n", f);
    for (const struct option *o = common_options; o->name; o++) row(f, o);
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden) verb_section(f, verbs[i]);
}
