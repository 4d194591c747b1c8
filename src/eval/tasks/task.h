/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - the table of tasks: a task is one file and one row.
 *
 * Most tasks generate (outputs.h) and match (match.c; the task gives prompt template, limits and
 * graders); others score what stands there: choices by likelihood, text by perplexity.  What a
 * result says is in milora/eval.h. */
#ifndef MIL_EVAL_TASKS_TASK_H
#define MIL_EVAL_TASKS_TASK_H

#include "eval/generate.h"
#include "io/file.h"
#include "milora/eval.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

/* One evaluation under way. Everything is borrowed. */
struct task_run {
    const struct task *task;
    struct model *model;
    const struct tokenizer *tokenizer; /* NULL: task_evaluate refuses, by MIL_USAGE */
    int64_t positions;                 /* of the handle */
    const char *data_path;             /* a file: task_evaluate has looked into a directory */
    const char *data_hash;             /* of its bytes, by task_evaluate too */
    const struct mil_eval_options *options;
    /* Who the model and its adapter are, by content: a run is resumed only with the same.  NULL
     * without an adapter, and where nobody asks. */
    const char *model_hash, *adapter_hash;
    mil_eval_progress_fn progress;
    void *ctx;
};

/* How a generating task grades. */
enum verdict { VERDICT_UNPARSED, VERDICT_WRONG, VERDICT_RIGHT };
const char *verdict_name(enum verdict v);
/* Of an output that could be read. */
enum verdict verdict_of(bool right);

/* How the task's protocol prompts and decodes; options of the run come before it. */
struct outputs_rules {
    const char *template_name;
    const char *opening; /* words that the answer is made to begin with, unless another template is
                          * chosen; NULL: none */
    int64_t max_new_tokens, num_beams;
    int64_t samples;    /* outputs a row; 0: 1.  More than one needs a temperature */
    double temperature; /* 0: greedy */
    double top_p;       /* 0: 1 */
    /* An output ends before the first of these, NULL-terminated, or NULL.  Generation ends there too. */
    const char *const *stop_strings;
};
struct match_rules;
/* One way of judging an output, named after whose it is. */
struct grader {
    const char *name;   /* "strict" */
    const char *counts; /* "right if ...", for the protocol's text */
    /* truth: as rules->truth made it; reference: the row's full reference output, or NULL; extracted is reset first. */
    enum verdict (*grade)(const struct match_rules *rules, const char *output, const char *truth,
                          const char *reference, struct str *extracted);
};
struct match_rules {
    struct outputs_rules outputs;
    const char *const *choices; /* or NULL */
    /* The truth to compare with; false: the row has none that this task can use. */
    bool (*truth)(const struct match_rules *rules, const struct eval_row *row, struct str *out);
    const char *truth_needs; /* what a row must have, for the message */
    /* NULL-terminated; the first is the default.  Every output is judged by all of them. */
    const struct grader *const *graders;
};

#define TASK_OUTPUTS "model_outputs.json" /* of alpaca_eval, where outputs_path says nothing */
/* Options that only some tasks have; another's is refused by name. */
enum task_takes {
    TAKES_PROMPTS = 1, /* template_name, max_new_tokens, num_beams, temperature, top_p */
    TAKES_SAMPLES = 2, /* n_samples */
    TAKES_STRIDE = 4,
    TAKES_JUDGE = 8,     /* outputs_path, generator */
    TAKES_EXECUTION = 16 /* allow_code_execution: needed */
};
typedef enum mil_status (*task_fn)(const struct task_run *run, struct mil_eval_result *result,
                                   struct mil_error *err);
struct task {
    const char *name, *metric, *summary;
    task_fn run;        /* NULL: not available yet */
    task_fn likelihood; /* by options.scoring; NULL: this task has only one way */
    const struct match_rules *rules;
    /* Where the data may lie below a directory, NULL-terminated; "*" stands for anything. */
    const char *const *files;
    unsigned takes; /* enum task_takes */
};

/* Rows of the table; *n of them. */
const struct task *task_table(size_t *n);
/* Look the task up, check what is common to all (grader, options), run it.  run->task is set here.
 * result is zeroed first. */
enum mil_status task_evaluate(struct task_run *run, const char *name,
                              struct mil_eval_result *result, struct mil_error *err);
/* What task_evaluate checks before anything is loaded; of run only data_path and options are used
 * (and model, unless NULL), and run->task is set. */
enum mil_status task_check(struct task_run *run, const char *name, struct mil_error *err);
/* The number of the grader of that name, 0 for NULL.  MIL_USAGE names the task's graders. */
enum mil_status task_grader(const struct task *t, const char *name, size_t *chosen,
                            struct mil_error *err);
/* The task's file: the path itself unless it is a directory; there, the first of t->files that
 * exists in it or in its folders of collections.  MIL_INPUT says what was looked for. */
enum mil_status task_locate(const struct task *t, const char *path, char out[PATH_CAP],
                            struct mil_error *err);
/* The longest sequence: options.max_length, or all positions of the model.  MIL_USAGE: more than
 * these. */
enum mil_status task_max_length(const struct task_run *run, int64_t *out, struct mil_error *err);
/* Append to the protocol's text. */
void result_protocol(struct mil_eval_result *result, const char *fmt, ...) MIL_PRINTF(2, 3);
/* Append a named value; silently full at MIL_EVAL_VALUES (a test holds the tasks to that). */
void result_add(struct mil_eval_result *result, const char *name, double value);

/* The tasks. */
enum mil_status match_run(const struct task_run *run, struct mil_eval_result *result,
                          struct mil_error *err);
enum mil_status perplexity_run(const struct task_run *run, struct mil_eval_result *result,
                               struct mil_error *err);
enum mil_status humaneval_run(const struct task_run *run, struct mil_eval_result *result,
                              struct mil_error *err);
enum mil_status alpaca_eval_run(const struct task_run *run, struct mil_eval_result *result,
                                struct mil_error *err);
/* The commonsense tasks by the likelihood of their choices: metric "acc". */
enum mil_status likelihood_run(const struct task_run *run, struct mil_eval_result *result,
                               struct mil_error *err);
extern const struct match_rules exact_match_rules, gsm8k_rules, math_rules;
extern const struct match_rules boolq_rules, piqa_rules, answer_rules, hellaswag_rules,
    winogrande_rules;

#endif
