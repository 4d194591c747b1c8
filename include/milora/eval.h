/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h - scores of a model on a task, always with the protocol that made them.
 *
 * A task turns the rows of a data file into prompts, generates (or scores) with the model, and
 * grades.  Numbers from different protocols are not comparable, so every result names its protocol
 * in words: prompt template, decoding, what counts as right. */
#ifndef MILORA_EVAL_H
#define MILORA_EVAL_H

#include <stddef.h>
#include <stdint.h>

#include "milora/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One row of the table of tasks.  `available` 0: the name is reserved, mil_eval answers
 * MIL_UNSUPPORTED. */
struct mil_eval_task {
    const char *name;    /* "gsm8k" */
    const char *metric;  /* "accuracy", "perplexity" */
    const char *summary; /* one line for --list */
    int available;
};
/* The table, *n rows; static storage. */
const struct mil_eval_task *mil_eval_tasks(size_t *n);

/* Names of the graders that tasks have, NULL-terminated; static storage.  mil_eval_check says which a task has. */
const char *const *mil_eval_graders(void);

/* Zeroed: every default is the task's own protocol.  data_path of mil_eval may be a directory: the
 * task's file is looked for in it by the names that docs/tasks.md lists. */
struct mil_eval_options {
    int64_t limit;      /* rows (perplexity: windows) used, from the first; 0: all */
    int64_t batch_size; /* prompts at once; 0: 8.  Never changes the result. */
    const char *grader; /* whose verdict is the value: NULL: the task's first ("strict"), "pissa",
                           "milora", ...; all of them are counted */
    const char *
        scoring; /* NULL or "generate"; "likelihood": multiple-choice tasks by the likelihood of the choices,
                            another metric ("acc") with another name */
    int64_t n_samples;         /* outputs a row (humaneval); 0: the task's */
    double temperature, top_p; /* 0: the task's */
    int resume; /* 1: samples_path holds what an earlier, stopped run with the same settings wrote: its outputs are
                   taken and only the missing rows are run; MIL_MISMATCH names the setting that differs */
    const char *outputs_path; /* alpaca_eval: the judge's file; NULL: "model_outputs.json" */
    const char *generator;    /* alpaca_eval: the model's name in it; NULL: the model's directory */
    int allow_code_execution; /* humaneval: 1: outputs may be run (sandboxed); 0: it is refused */
    const char *template_name; /* NULL: the task's; a name; "chat": the model's own; "raw": none */
    int64_t max_new_tokens;    /* 0: the task's */
    int64_t num_beams;         /* 0: the task's */
    int64_t max_length; /* perplexity: window in tokens, 0: 1024, at most the handle's positions.
                           Generation: longest prompt + answer, 0: the handle's positions */
    int64_t stride;     /* perplexity: tokens between windows; 0: max_length (disjoint) */
    const char *samples_path; /* NULL, or a JSON Lines file that gets one object a row as they end
                                 (replaced if it exists) */
    const char *result_path; /* NULL, or where the caller writes the result: refused where that is a
                                 file the run reads or writes */
    uint64_t seed;           /* of sampling where the temperature is not 0; recorded always */
};

/* State of a run, for a progress line. */
struct mil_eval_progress {
    int64_t done, total;       /* rows (windows) */
    double value;              /* the metric so far */
    double elapsed, remaining; /* seconds; remaining -1 while unknown */
    int64_t tokens;            /* generated, or scored */
};
/* Return 0 to stop: mil_eval then ends with MIL_INTERRUPTED. */
typedef int (*mil_eval_progress_fn)(void *ctx, const struct mil_eval_progress *progress);

#define MIL_EVAL_VALUES 48
struct mil_eval_result {
    char task[32], metric[32], grader[32], template_name[32];
    char data[4096];         /* path of the file that was read */
    char data_hash[33];      /* of its bytes: XXH3, 128 bits, in hexadecimal */
    char protocol[1024];     /* in words */
    int64_t n;               /* rows graded, or tokens scored */
    double value, std_error; /* accuracy in [0, 1] with sqrt(p (1 - p) / n); perplexity with the
                                delta-method error of its mean over tokens */
    struct {
        char name[32]; /* "correct", "unparsed", "nll", "bits_per_byte", "seconds", ... */
        double value;
    } values[MIL_EVAL_VALUES];
    size_t n_values;
    /* The settings as they were used: defaults resolved, 0 where the task has no such setting. */
    int64_t limit, max_new_tokens, num_beams, max_length, stride, n_samples;
    double temperature, top_p;
    uint64_t seed;
};

/* What can be known before a model is loaded: is there such a task, has it these options, are the
 * data where data_path says.  Same statuses as mil_eval, which does the same. */
enum mil_status mil_eval_check(const char *task, const char *data_path,
                               const struct mil_eval_options *options, struct mil_error *err);

/* Evaluate.  progress may be NULL.  MIL_USAGE: unknown task (nearest named), grader, template, an
 * option out of range, or a name that results could not hold because it is no UTF-8; MIL_UNSUPPORTED: a task or grader not available yet; MIL_INPUT: rows that
 * lack what the task needs, by file and row number. */
enum mil_status mil_eval(mil_model *model, const char *task, const char *data_path,
                         const struct mil_eval_options *options, mil_eval_progress_fn progress,
                         void *ctx, struct mil_eval_result *result, struct mil_error *err);

/* results.json (docs/formats/results.md), written atomically. */
enum mil_status mil_eval_write(const mil_model *model, const struct mil_eval_result *result,
                               const char *path, struct mil_error *err);
/* The same as text: *out is freed by mil_eval_text_free. */
enum mil_status mil_eval_json(const mil_model *model, const struct mil_eval_result *result,
                              char **out, struct mil_error *err);
void mil_eval_text_free(char **text);

/* 1: the value is a share of n ("accuracy", "acc", "pass@1"), with meaning as a percentage. */
int mil_eval_is_share(const struct mil_eval_result *result);
/* Mean of the values that are shares; *of: how many (0: the mean is 0). */
double mil_eval_average(const struct mil_eval_result *results, size_t n, size_t *of);
/* Several results as one object: version, program, results, average (docs/formats/results.md). */
enum mil_status mil_eval_write_all(const mil_model *model, const struct mil_eval_result *results,
                                   size_t n, const char *path, struct mil_error *err);
enum mil_status mil_eval_json_all(const mil_model *model, const struct mil_eval_result *results,
                                  size_t n, char **out, struct mil_error *err);

#ifdef __cplusplus
}
#endif
#endif
