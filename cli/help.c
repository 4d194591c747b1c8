/* SPDX-License-Identifier: Apache-2.0 */
/* help.c - the overview and a verb's --help, from the tables of cli.h. */
#include <string.h>

#include "cli.h"

enum { HELP_WIDTH = 92, HELP_COLUMN = 28 };

/* Words of text from column `at`, wrapped with `indent` columns on further lines; ends the line. */
static void wrapped(FILE *f, const char *text, int at, int indent) {
    const char *s = text;
    while (*s) {
        int n = (int)strcspn(s, " ");
        if (at > indent && at + 1 + n > HELP_WIDTH) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        } else if (s != text) {
            fputc(' ', f);
            at++;
        }
        fprintf(f, "%.*s", n, s);
        at += n;
        s += n;
        s += strspn(s, " ");
    }
    fputc('\n', f);
}

static void describe(const struct option *o, char *out, size_t cap) {
    int n = snprintf(out, cap, "%s", o->help);
    if (o->choices) {
        const char *const *names = o->choices();
        for (size_t i = 0; names[i] && n < (int)cap; i++)
            n += snprintf(out + n, cap - (size_t)n, "%s%s", i ? ", " : ": ", names[i]);
    }
    if (o->fallback && !o->takes && n < (int)cap)
        snprintf(out + n, cap - (size_t)n, " (default %s)", o->fallback);
    else if (o->required && n < (int)cap)
        snprintf(out + n, cap - (size_t)n, " (required)");
}

static void row(FILE *f, const char *left, const struct option *o) {
    char text[1024];
    describe(o, text, sizeof text);
    int at = fprintf(f, "  %s", left);
    if (at >= HELP_COLUMN) {
        fputc('\n', f);
        at = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - at, "");
    wrapped(f, text, HELP_COLUMN, HELP_COLUMN);
}

static void option_rows(FILE *f, const struct option *table) {
    for (const struct option *o = table; o && o->name; o++) {
        char left[128];
        if (o->type == OPTION_FLAG)
            snprintf(left, sizeof left, "--%s", o->name);
        else if (o->takes)
            snprintf(left, sizeof left, "--%s [%s]", o->name, o->value);
        else
            snprintf(left, sizeof left, "--%s %s", o->name, o->value);
        row(f, left, o);
    }
}

void help_verb(FILE *f, const struct verb *verb) {
    fprintf(f, "usage: milora %s", verb->name);
    for (const struct option *p = verb->positionals; p && p->name; p++)
        fprintf(f, p->required ? " %s" : " [%s]", p->name);
    fprintf(f, " [options]\n\n");
    wrapped(f, verb->summary, 0, 0);
    if (verb->about) fprintf(f, "\n%s\n", verb->about);
    if (verb->positionals) fprintf(f, "\narguments:\n");
    for (const struct option *p = verb->positionals; p && p->name; p++) row(f, p->name, p);
    fprintf(f, "\noptions:\n");
    option_rows(f, verb->options);
    option_rows(f, common_options);
    if (verb->more) verb->more(f);
    fprintf(f, "\nexample:\n");
    for (const char *s = verb->example; *s;) {
        int n = (int)strcspn(s, "\n");
        fprintf(f, "  %.*s\n", n, s);
        s += n + (s[n] == '\n');
    }
}

void help_overview(FILE *f) {
    fprintf(f, "usage: milora VERB [arguments] [options]\n\n"
               "Fine-tune LLaMA-family language models with adapters that start from the singular\n"
               "value decomposition of the frozen weights.\n\nverbs:\n");
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden) {
            int at = fprintf(f, "  %s", verbs[i]->name);
            fprintf(f, "%*s", 14 - at, "");
            wrapped(f, verbs[i]->summary, 14, 14);
        }
    fprintf(f, "\n'milora VERB --help' tells a verb's arguments and options, with an example;\n"
               "'milora --version' the version.  A first run:\n\n"
               "  milora recipes                       # configurations to start from\n"
               "  milora recipes cp smollm2-kelu my.yaml\n"
               "  milora train my.yaml\n");
}
