/* SPDX-License-Identifier: Apache-2.0 */
/* man.c - milora(1), in man(7) macros, from the same tables as --help. */
#include <string.h>

#include "cli.h"

/* Text with what roff would take for markup escaped; a line never begins with a control character.
 */
static void escaped(FILE *f, const char *s) {
    for (bool start = true; *s; s++) {
        if (start && (*s == '.' || *s == '\'')) fputs("\\&", f);
        if (*s == '\\')
            fputs("\\e", f);
        else if (*s == '-')
            fputs("\\-", f);
        else
            fputc(*s, f);
        start = *s == '\n';
    }
}

static void option_entries(FILE *f, const struct option *table) {
    for (const struct option *o = table; o && o->name; o++) {
        fputs(".TP\n\\fB\\-\\-", f);
        escaped(f, o->name);
        fputs("\\fR", f);
        if (o->value) {
            fputs(" \\fI", f);
            escaped(f, o->value);
            fputs("\\fR", f);
        }
        fputc('\n', f);
        escaped(f, o->help);
        if (o->choices) {
            const char *const *names = o->choices();
            for (size_t i = 0; names[i]; i++) {
                fputs(i ? ", " : ": ", f);
                escaped(f, names[i]);
            }
        }
        if (o->fallback && !o->takes) {
            fputs(" (default ", f);
            escaped(f, o->fallback);
            fputc(')', f);
        }
        fputs(".\n", f);
    }
}

static void verb_section(FILE *f, const struct verb *verb) {
    fprintf(f, ".SS milora %s", verb->name);
    for (const struct option *p = verb->positionals; p && p->name; p++)
        fprintf(f, p->required ? " %s" : " [%s]", p->name);
    fputs("\n", f);
    escaped(f, verb->summary);
    fputs(".\n", f);
    if (verb->about) {
        fputs(".PP\n.nf\n", f);
        escaped(f, verb->about);
        fputs("\n.fi\n", f);
    }
    for (const struct option *p = verb->positionals; p && p->name; p++) {
        fprintf(f, ".TP\n.I ");
        escaped(f, p->name);
        fputc('\n', f);
        escaped(f, p->help);
        fputs(".\n", f);
    }
    option_entries(f, verb->options);
    fputs(".PP\nExample:\n.PP\n.nf\n.RS\n", f);
    escaped(f, verb->example);
    fputs("\n.RE\n.fi\n", f);
}

static void key_section(FILE *f) {
    size_t n;
    const struct mil_config_key *keys = mil_config_keys(&n);
    fputs(".SH TRAINING CONFIGURATION\nKeys of CONFIG.yaml, and of the key=value words after it.\n",
          f);
    for (size_t i = 0; i < n; i++) {
        fprintf(f, ".TP\n.B %s\n", keys[i].name);
        escaped(f, keys[i].help);
        if (keys[i].required) {
            fputs(" (required)", f);
        } else if (keys[i].default_value[0]) {
            fputs(" (default ", f);
            escaped(f, keys[i].default_value);
            fputc(')', f);
        }
        fputs(".\n", f);
    }
}

void man_page(FILE *f) {
    fprintf(f,
            ".\\\" generated from the option tables by 'milora help --man'\n"
            ".TH MILORA 1 \"\" \"milora %s\" \"User Commands\"\n"
            ".SH NAME\nmilora \\- fine\\-tune language models with SVD\\-initialised adapters\n"
            ".SH SYNOPSIS\n.B milora\n.I verb\n.RI [ arguments ]\n.RI [ options ]\n"
            ".SH DESCRIPTION\n",
            mil_version());
    fputs(
        "Initialises, trains, evaluates, merges and exports low\\-rank adapters of LLaMA\\-family\n"
        "models.  MODEL is a Hugging Face directory or a .gguf file; ADAPTER is a directory in\n"
        "PEFT's format.  Results go to standard output, progress and notices to standard error.\n"
        ".SH OPTIONS OF EVERY VERB\n",
        f);
    option_entries(f, common_options);
    fputs(".SH VERBS\n", f);
    for (size_t i = 0; verbs[i]; i++)
        if (!verbs[i]->hidden) verb_section(f, verbs[i]);
    key_section(f);
    fputs(
        ".SH EXIT STATUS\n0: success.  1: a run that failed (disk full, no memory, a loss that is\n"
        "not finite).  2: wrong usage or bad input.\n"
        ".SH ENVIRONMENT\n.TP\n.B MILORA_ISA\nLowers the instruction set: ref, avx2, avx512,\n"
        "avx512_bf16, amx.\n",
        f);
}
