/* SPDX-License-Identifier: Apache-2.0 */
/* task.c - the table of tasks, and what all of them check. */
#include "eval/task.h"

#include <stdio.h>
#include <string.h>

static const struct task table[] = {
    {"exact_match", "accuracy", "rows of any format: the output equals `answer` or `output`",
     match_run, &exact_match_rules},
    {"gsm8k", "accuracy", "grade-school word problems, zero-shot, the final number", match_run,
     &gsm8k_rules},
    {"math", "accuracy", "competition mathematics, the boxed answer", NULL, NULL},
    {"boolq", "accuracy", "yes/no questions (LLM-Adapters' generation protocol)", match_run,
     &boolq_rules},
    {"piqa", "accuracy", "physical common sense (LLM-Adapters' generation protocol)", match_run,
     &piqa_rules},
    {"social_i_qa", "accuracy", "social common sense (LLM-Adapters' generation protocol)",
     match_run, &answer_rules},
    {"hellaswag", "accuracy", "sentence endings (LLM-Adapters' generation protocol)", match_run,
     &hellaswag_rules},
    {"winogrande", "accuracy", "fill in the blank (LLM-Adapters' generation protocol)", match_run,
     &winogrande_rules},
    {"arc_easy", "accuracy", "science questions, easy (LLM-Adapters' generation protocol)",
     match_run, &answer_rules},
    {"arc_challenge", "accuracy", "science questions, hard (LLM-Adapters' generation protocol)",
     match_run, &answer_rules},
    {"openbookqa", "accuracy", "open-book science (LLM-Adapters' generation protocol)", match_run,
     &answer_rules},
    {"humaneval", "pass@1", "Python functions checked by running their tests", NULL, NULL},
    {"alpaca_eval", "outputs", "outputs for an external judge", NULL, NULL},
    {"perplexity", "perplexity", "next-token loss on text, in sliding windows", perplexity_run,
     NULL},
};
#define TASKS (sizeof table / sizeof *table)

const struct task *task_table(size_t *n) {
    *n = TASKS;
    return table;
}

const char *verdict_name(enum verdict v) {
    static const char *const names[] = {"unparsed", "wrong", "right"};
    return names[v];
}

void result_add(struct mil_eval_result *result, const char *name, double value) {
    if (result->n_values == MIL_EVAL_VALUES) return;
    snprintf(result->values[result->n_values].name, sizeof result->values->name, "%s", name);
    result->values[result->n_values++].value = value;
}

static enum mil_status find(const char *name, const struct task **out, struct mil_error *err) {
    const char *names[TASKS];
    for (size_t i = 0; i < TASKS; i++) {
        names[i] = table[i].name;
        if (strcmp(name, names[i]) != 0) continue;
        *out = &table[i];
        if (table[i].run) return MIL_OK;
        return error_set(
            err, MIL_UNSUPPORTED,
            "task '%s' is not available yet; exact_match, gsm8k, the commonsense tasks "
            "and perplexity are",
            name);
    }
    const char *near = str_nearest(name, names, TASKS);
    return error_set(err, MIL_USAGE, "unknown task '%.64s'%s%s%s; --list shows them all", name,
                     near ? "; did you mean '" : "", near ? near : "", near ? "'" : "");
}

static enum mil_status check_grader(const char *grader, struct mil_error *err) {
    static const char *const known[] = {"strict", "pissa", "milora", "lm-eval"};
    if (!grader || strcmp(grader, "strict") == 0) return MIL_OK;
    for (size_t i = 1; i < 4; i++)
        if (strcmp(grader, known[i]) == 0)
            return error_set(err, MIL_UNSUPPORTED,
                             "grader '%s' is not available yet; 'strict' is the one there is",
                             grader);
    return error_set(err, MIL_USAGE, "unknown grader '%.64s'; strict, pissa, milora, lm-eval",
                     grader);
}

static enum mil_status check_number(const char *name, int64_t value, struct mil_error *err) {
    if (value >= 0 && value <= (int64_t)1 << 31) return MIL_OK;
    return error_set(err, MIL_USAGE, "%s is %lld; it must be between 0 (the default) and 2^31",
                     name, (long long)value);
}

enum mil_status task_evaluate(struct task_run *run, const char *name,
                              struct mil_eval_result *result, struct mil_error *err) {
    const struct mil_eval_options *o = run->options;
    memset(result, 0, sizeof *result);
    TRY(find(name, &run->task, err));
    TRY(check_grader(o->grader, err));
    TRY(check_number("limit", o->limit, err));
    TRY(check_number("batch_size", o->batch_size, err));
    TRY(check_number("max_new_tokens", o->max_new_tokens, err));
    TRY(check_number("num_beams", o->num_beams, err));
    TRY(check_number("max_length", o->max_length, err));
    TRY(check_number("stride", o->stride, err));
    if (strlen(run->data_path) >= sizeof result->data)
        return error_set(err, MIL_USAGE, "the data path is longer than %zu bytes",
                         sizeof result->data - 1);
    snprintf(result->task, sizeof result->task, "%s", run->task->name);
    snprintf(result->metric, sizeof result->metric, "%s", run->task->metric);
    snprintf(result->grader, sizeof result->grader, "strict");
    snprintf(result->data, sizeof result->data, "%s", run->data_path);
    result->seed = o->seed;
    return run->task->run(run, result, err);
}
