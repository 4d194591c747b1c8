/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - the frame of the command line: verbs, their option tables, and what is made from them.
 *
 * A verb is one file (cmd_<verb>.c) with one `struct verb`.  Its tables are the only description of
 * its arguments: parsing, --help, the man page and the shell completions all come from them.
 * Results go to standard output, everything else to standard error; run functions return a status
 * and leave the printing of errors, and the exit, to main.c.
 *
 * The command line stands on <milora/...> alone. */
#ifndef MILORA_CLI_H
#define MILORA_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "milora/milora.h"

#define CLI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Where a parsed value goes, and in which C type: bool, const char *, int64_t, double, or (the last
 * positional only) struct rest. */
enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_INT, OPTION_REAL, OPTION_REST };
enum option_files { FILES_NONE, FILES_ANY, FILES_DIRS };
struct rest {
    char **items; /* n of them, inside argv */
    size_t n;
};

struct option {
    const char *name; /* "max-new-tokens"; of a positional: "MODEL" */
    enum option_type type;
    size_t offset;                       /* of the value in the verb's struct */
    const char *value;                   /* placeholder in help, "N" */
    const char *fallback;                /* default, parsed like a given value; NULL: zero */
    const char *help;                    /* one phrase, no period */
    const char *const *(*choices)(void); /* closed set of names (NULL-terminated) */
    double min, max;                     /* of a number; min == max: no limits */
    enum option_files files;             /* what completion offers */
    bool required;
    /* OPTION_TEXT whose value may be left out (then `fallback` of the option's presence, "last"):
     * tells whether the next word belongs to it. */
    bool (*takes)(const char *word);
};

struct verb {
    const char *name;
    const char *summary;              /* one phrase */
    const char *about;                /* paragraphs after the usage line, or NULL */
    const char *example;              /* lines of commands */
    const struct option *positionals; /* in order, ends with a zeroed row; NULL: none */
    const struct option *options;     /* likewise */
    size_t bytes;                     /* of the struct that the tables fill, at most VERB_BYTES */
    enum mil_status (*run)(const void *args, struct mil_error *err);
    bool hidden;
    bool raw;              /* options other than --help are words like the others */
    bool keys;             /* key=value words of a training configuration complete */
    void (*more)(FILE *f); /* further paragraphs of --help, or NULL */
};
enum { VERB_BYTES = 1024 };
extern const struct verb *const verbs[]; /* in the order of help; NULL-terminated */

/* ---- parsing (options.c) */

/* What every verb takes. */
struct common {
    bool help, quiet;
    int64_t threads;
};
extern struct common common;
extern const struct option common_options[];

/* Fill args from argv[0..argc), words after the verb.  Positionals end up at the front of argv.
 * MIL_USAGE. With --help parsing stops at once. */
enum mil_status cli_parse(const struct verb *verb, int argc, char **argv, void *args,
                          struct mil_error *err);
const struct verb *verb_find(const char *name);
/* The nearest verb's name, or NULL. */
const char *verb_nearest(const char *name);
/* Fill err (MIL_USAGE, or the status given) and return the status. */
enum mil_status cli_usage(struct mil_error *err, const char *fmt, ...) CLI_PRINTF(2, 3);
enum mil_status cli_fail(struct mil_error *err, enum mil_status status, const char *fmt, ...)
    CLI_PRINTF(3, 4);

/* ---- texts made from the tables (help.c, man.c, markdown.c, complete.c) */

void help_overview(FILE *f);
void help_verb(FILE *f, const struct verb *verb);
void man_page(FILE *f);
void markdown_reference(FILE *f);
/* shell: "bash", "zsh", "fish"; false for another. */
bool complete_script(FILE *f, const char *shell);

/* ---- shared by verbs (common.c, screen.c) */

/* "bf16" or "f32" -> the compute type. */
enum mil_compute cli_compute(const char *dtype);
const char *const *choices_compute(void);
const char *const *choices_stored(void); /* bf16, f16, f32 */
/* "a,b c" as names; names[0 .. n) lie in text. */
struct name_list {
    char text[4096];
    const char *names[128];
    size_t n;
};
/* The modules that an option's value names.  MIL_USAGE, which names the option: none, too many, too long. */
enum mil_status cli_names(const char *option, const char *value, struct name_list *out,
                          struct mil_error *err);
/* 1234567 as "1,234,567". */
const char *cli_grouped(char buf[32], int64_t n);
/* PEFT's line: "trainable params: 1,024 || all params: 2,048 || trainable%: 50.0000". */
void cli_print_trainable(FILE *f, int64_t trainable, int64_t all);
/* JSON on standard output; takes over the reference.  MIL_NOMEM when root is NULL. */
struct json_t;
enum mil_status cli_print_json(struct json_t *root, struct mil_error *err);
/* Standard output reached its reader so far; MIL_IO (closed pipe, full disk) otherwise. */
enum mil_status cli_flush(struct mil_error *err);
/* SIGINT and SIGTERM call mil_request_stop; a second one kills. */
void cli_catch_stop(void);

/* Standard error.  screen_line prints a line above the progress line; screen_progress rewrites the
 * progress line on a terminal, and elsewhere does nothing; screen_clear removes it.  All but
 * warnings are silent with --quiet. */
void screen_init(void);
bool screen_is_terminal(void);
void screen_line(const char *fmt, ...) CLI_PRINTF(1, 2);
void screen_text(const char *text); /* lines of any length */
void screen_progress(const char *fmt, ...) CLI_PRINTF(1, 2);
void screen_clear(void);
/* The stream of standard error, with no progress line on it. */
FILE *screen_stream(void);
/* Receiver of the library's notices. */
void screen_notice(void *ctx, enum mil_notice level, const char *line);

#define OPTION_END                                                                                 \
    { .name = NULL }
#define POSITIONAL_MODEL(type_)                                                                    \
    {                                                                                              \
        .name = "MODEL", .type = OPTION_TEXT, .offset = offsetof(struct type_, model),             \
        .help = "Hugging Face directory or .gguf file", .files = FILES_ANY, .required = true       \
    }
#define OPTION_ADAPTER(type_)                                                                      \
    {                                                                                              \
        .name = "adapter", .type = OPTION_TEXT, .offset = offsetof(struct type_, adapter),         \
        .value = "ADAPTER", .help = "adapter directory on top of the model", .files = FILES_DIRS   \
    }
#define OPTION_COMPUTE(type_)                                                                      \
    {                                                                                              \
        .name = "dtype", .type = OPTION_TEXT, .offset = offsetof(struct type_, dtype),             \
        .value = "TYPE", .fallback = "bf16", .help = "compute type of matrix products",            \
        .choices = choices_compute                                                                 \
    }
#define OPTION_JSON(type_)                                                                         \
    {                                                                                              \
        .name = "json", .type = OPTION_FLAG, .offset = offsetof(struct type_, json),               \
        .help = "print JSON instead of text"                                                       \
    }

#endif
