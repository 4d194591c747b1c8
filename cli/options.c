/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - words of the command line into a verb's struct, as its tables say.
 *
 * "--name value", "--name=value", "-h"; options and positionals may be mixed; "--" ends the
 * options. The word after an option that needs a value is its value, whatever it begins with.
 * Positionals are moved to the front of argv, so that the last one may take any number of words
 * without memory of its own. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct common common;
const struct option common_options[] = {
    {.name = "threads",
     .type = OPTION_INT,
     .offset = offsetof(struct common, threads),
     .value = "N",
     .fallback = "0",
     .help = "threads to compute with, 0 for all that this process may use",
     .min = 0,
     .max = 4096},
    {.name = "quiet",
     .type = OPTION_FLAG,
     .offset = offsetof(struct common, quiet),
     .help = "no progress and no notices on standard error, only warnings and errors"},
    {.name = "help",
     .type = OPTION_FLAG,
     .offset = offsetof(struct common, help),
     .help = "print this and exit (also -h)"},
    OPTION_END,
};

enum mil_status cli_fail(struct mil_error *err, enum mil_status status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    err->status = status;
    err->offset = -1;
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    for (char *s = err->message; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
    return status;
}

enum mil_status cli_usage(struct mil_error *err, const char *fmt, ...) {
    char message[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return cli_fail(err, MIL_USAGE, "%s", message);
}

const struct verb *verb_find(const char *name) {
    for (size_t i = 0; verbs[i]; i++)
        if (strcmp(verbs[i]->name, name) == 0) return verbs[i];
    return NULL;
}

const char *verb_nearest(const char *name) {
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; verbs[i] && n < sizeof names / sizeof *names; i++)
        if (!verbs[i]->hidden) names[n++] = verbs[i]->name;
    return mil_nearest(name, names, n);
}

/* ---- one value */

/* "--" before the name in messages; a positional has no placeholder and no dashes. */
static const char *dashes(const struct option *o) {
    return o->value || o->type == OPTION_FLAG ? "--" : "";
}

static enum mil_status check_limits(const struct option *o, double value, struct mil_error *err) {
    if (o->min == o->max || (value >= o->min && value <= o->max)) return MIL_OK;
    return cli_usage(err, "--%s %g: must lie between %g and %g", o->name, value, o->min, o->max);
}

static enum mil_status set_int(const struct option *o, const char *text, void *place,
                               struct mil_error *err) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return cli_usage(err, "--%s '%s': not a whole number", o->name, text);
    *(int64_t *)place = value;
    return check_limits(o, (double)value, err);
}

static enum mil_status set_real(const struct option *o, const char *text, void *place,
                                struct mil_error *err) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return cli_usage(err, "--%s '%s': not a number", o->name, text);
    *(double *)place = value;
    return check_limits(o, value, err);
}

static enum mil_status check_choice(const struct option *o, const char *text,
                                    struct mil_error *err) {
    const char *const *names = o->choices();
    char all[256] = "";
    size_t n = 0;
    for (; names[n]; n++) {
        if (strcmp(names[n], text) == 0) return MIL_OK;
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = mil_nearest(text, names, n);
    if (near)
        return cli_usage(err, "%s%s '%s': no such choice; did you mean '%s'? (%s)", dashes(o),
                         o->name, text, near, all);
    return cli_usage(err, "%s%s '%s': no such choice; there are %s", dashes(o), o->name, text, all);
}

static enum mil_status set_value(const struct option *o, const char *text, void *base,
                                 struct mil_error *err) {
    void *place = (char *)base + o->offset;
    switch (o->type) {
    case OPTION_INT: return set_int(o, text, place, err);
    case OPTION_REAL: return set_real(o, text, place, err);
    case OPTION_TEXT:
        *(const char **)place = text;
        return o->choices ? check_choice(o, text, err) : MIL_OK;
    case OPTION_FLAG: *(bool *)place = true; return MIL_OK;
    case OPTION_REST: break;
    }
    return MIL_OK;
}

static enum mil_status set_defaults(const struct option *table, void *base, struct mil_error *err) {
    for (const struct option *o = table; o && o->name; o++) {
        if (!o->fallback || o->takes) continue;
        enum mil_status st = set_value(o, o->fallback, base, err);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}

/* ---- options */

static const struct option *find(const struct option *table, const char *name, size_t n) {
    for (const struct option *o = table; o && o->name; o++)
        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0) return o;
    return NULL;
}

static enum mil_status unknown_option(const struct verb *verb, const char *word,
                                      struct mil_error *err) {
    const char *names[96];
    size_t n = 0;
    const struct option *tables[] = {verb->options, common_options};
    for (size_t t = 0; t < 2; t++)
        for (const struct option *o = tables[t]; o && o->name && n < 96; o++) names[n++] = o->name;
    char name[64];
    const char *bare = word + strspn(word, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
    const char *near = mil_nearest(name, names, n);
    if (near) return cli_usage(err, "unknown option '%s'; did you mean '--%s'?", word, near);
    return cli_usage(err, "unknown option '%s'; 'milora %s --help' lists them", word, verb->name);
}

/* The option at argv[*i], moving *i past its value. */
static enum mil_status parse_option(const struct verb *verb, int argc, char **argv, int *i,
                                    void *args, struct mil_error *err) {
    char *word = argv[(*i)++];
    if (strcmp(word, "-h") == 0) {
        common.help = true;
        return MIL_OK;
    }
    if (strncmp(word, "--", 2) != 0) return unknown_option(verb, word, err);
    size_t n = strcspn(word + 2, "=");
    const char *given = word[2 + n] == '=' ? word + 3 + n : NULL;
    const struct option *o = find(verb->options, word + 2, n);
    void *base = args;
    if (!o) {
        o = find(common_options, word + 2, n);
        base = &common;
    }
    if (!o) return unknown_option(verb, word, err);
    if (o->type == OPTION_FLAG && given)
        return cli_usage(err, "--%s takes no value ('%s')", o->name, given);
    if (o->type == OPTION_FLAG) return set_value(o, "", base, err);
    if (o->takes && !given) given = *i < argc && o->takes(argv[*i]) ? argv[(*i)++] : o->fallback;
    if (!given && *i >= argc) return cli_usage(err, "--%s needs a value", o->name);
    return set_value(o, given ? given : argv[(*i)++], base, err);
}

/* ---- positionals */

static enum mil_status set_positionals(const struct verb *verb, size_t n, char **words, void *args,
                                       struct mil_error *err) {
    size_t used = 0;
    for (const struct option *p = verb->positionals; p && p->name; p++) {
        if (p->type == OPTION_REST) {
            struct rest *rest = (struct rest *)(void *)((char *)args + p->offset);
            *rest = (struct rest){words + used, n - used};
            used = n;
        } else if (used < n) {
            enum mil_status st = set_value(p, words[used++], args, err);
            if (st != MIL_OK) return st;
        } else if (p->required) {
            return cli_usage(err, "%s is missing; 'milora %s --help' shows an example", p->name,
                             verb->name);
        }
    }
    if (used < n) return cli_usage(err, "'%s': one argument too many", words[used]);
    return MIL_OK;
}

static enum mil_status check_required(const struct verb *verb, const void *args,
                                      struct mil_error *err) {
    for (const struct option *o = verb->options; o && o->name; o++)
        if (o->required && !*(const char *const *)((const char *)args + o->offset))
            return cli_usage(err, "--%s %s is missing; 'milora %s --help' shows an example",
                             o->name, o->value, verb->name);
    return MIL_OK;
}

enum mil_status cli_parse(const struct verb *verb, int argc, char **argv, void *args,
                          struct mil_error *err) {
    enum mil_status st = set_defaults(common_options, &common, err);
    if (st == MIL_OK) st = set_defaults(verb->options, args, err);
    size_t n = 0;
    bool only_words = false;
    for (int i = 0; st == MIL_OK && i < argc && !common.help;) {
        char *word = argv[i];
        if (verb->raw && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0) {
            argv[n++] = argv[i++];
        } else if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            i++;
        } else if (only_words || word[0] != '-' || word[1] == '\0') {
            argv[n++] = argv[i++];
        } else {
            st = parse_option(verb, argc, argv, &i, args, err);
        }
    }
    if (st != MIL_OK || common.help) return st;
    st = set_positionals(verb, n, argv, args, err);
    return st == MIL_OK ? check_required(verb, args, err) : st;
}
