/* SPDX-License-Identifier: Apache-2.0 */
/* task.c - the table of tasks, and what all of them check. */
#include "eval/tasks/task.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "eval/prompt.h"
#include "io/hash.h"

#define FILES(...)                                                                                 \
    .files = (const char *const[]) {                                                               \
        __VA_ARGS__, NULL                                                                          \
    }
#define GENERATION "(LLM-Adapters' generation protocol, or --scoring likelihood)"
#define COMMONSENSE(name_, summary_, rules_, folder_)                                              \
    {                                                                                              \
        .name = name_, .metric = "accuracy", .summary = summary_ " " GENERATION, .run = match_run, \
        .likelihood = likelihood_run, .rules = &rules_, FILES(folder_ "/test.json"),               \
        .takes = TAKES_PROMPTS                                                                     \
    }

static const struct task table[] = {
    {.name = "exact_match",
     .metric = "accuracy",
     .summary = "rows of any format: the output equals `answer` or `output`",
     .run = match_run,
     .rules = &exact_match_rules,
     .takes = TAKES_PROMPTS},
    {.name = "gsm8k",
     .metric = "accuracy",
     .summary = "grade-school word problems, zero-shot, the final number",
     .run = match_run,
     .rules = &gsm8k_rules,
     FILES("gsm8k/test.jsonl", "gsm8k_test.jsonl"),
     .takes = TAKES_PROMPTS},
    {.name = "math",
     .metric = "accuracy",
     .summary = "competition mathematics, the boxed answer",
     .run = match_run,
     .rules = &math_rules,
     FILES("MATH/math500_test.jsonl", "MATH/test.jsonl", "MATH_test.jsonl"),
     .takes = TAKES_PROMPTS},
    COMMONSENSE("boolq", "yes/no questions", boolq_rules, "boolq"),
    COMMONSENSE("piqa", "physical common sense", piqa_rules, "piqa"),
    COMMONSENSE("social_i_qa", "social common sense", answer_rules, "social_i_qa"),
    COMMONSENSE("hellaswag", "sentence endings", hellaswag_rules, "hellaswag"),
    COMMONSENSE("winogrande", "fill in the blank", winogrande_rules, "winogrande"),
    COMMONSENSE("arc_easy", "science questions, easy", answer_rules, "ARC-Easy"),
    COMMONSENSE("arc_challenge", "science questions, hard", answer_rules, "ARC-Challenge"),
    COMMONSENSE("openbookqa", "open-book science", answer_rules, "openbookqa"),
    {.name = "humaneval",
     .metric = "pass@1",
     .summary = "Python functions checked by running their tests",
     .run = humaneval_run,
     FILES("HumanEval.jsonl", "HumanEval.jsonl.gz"),
     .takes = TAKES_PROMPTS | TAKES_SAMPLES | TAKES_EXECUTION},
    {.name = "alpaca_eval",
     .metric = "outputs",
     .summary = "outputs for an external judge",
     .run = alpaca_eval_run,
     FILES("alpaca_eval.json", "alpaca_eval*.json"),
     .takes = TAKES_PROMPTS | TAKES_JUDGE},
    {.name = "perplexity",
     .metric = "perplexity",
     .summary = "next-token loss on text, in sliding windows",
     .run = perplexity_run,
     FILES("wikitext103_test.txt"),
     .takes = TAKES_STRIDE},
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

enum verdict verdict_of(bool right) {
    return right ? VERDICT_RIGHT : VERDICT_WRONG;
}

void result_protocol(struct mil_eval_result *result, const char *fmt, ...) {
    size_t used = strlen(result->protocol);
    va_list args;
    va_start(args, fmt);
    vsnprintf(result->protocol + used, sizeof result->protocol - used, fmt, args);
    va_end(args);
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
        return error_set(err, MIL_UNSUPPORTED,
                         "task '%s' is not available yet; --list says which are", name);
    }
    const char *near = str_nearest(name, names, TASKS);
    return error_set(err, MIL_USAGE, "unknown task '%.64s'%s%s%s --list shows them all", name,
                     near ? "; did you mean '" : ";", near ? near : "", near ? "'?" : "");
}

/* ---- options ---- */

static enum mil_status check_number(const char *name, int64_t value, struct mil_error *err) {
    if (value >= 0 && value <= (int64_t)1 << 31) return MIL_OK;
    return error_set(err, MIL_USAGE, "%s is %lld; it must be between 0 (the default) and 2^31",
                     name, (long long)value);
}

static enum mil_status check_numbers(const struct mil_eval_options *o, struct mil_error *err) {
    TRY(check_number("limit", o->limit, err));
    TRY(check_number("batch_size", o->batch_size, err));
    TRY(check_number("max_new_tokens", o->max_new_tokens, err));
    TRY(check_number("num_beams", o->num_beams, err));
    TRY(check_number("max_length", o->max_length, err));
    TRY(check_number("stride", o->stride, err));
    TRY(check_number("n_samples", o->n_samples, err));
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return error_set(err, MIL_USAGE,
                         "temperature is %g; it must be positive, or 0 for the task's",
                         o->temperature);
    if (!(o->top_p >= 0 && o->top_p <= 1))
        return error_set(err, MIL_USAGE, "top_p is %g; it must be in (0, 1], or 0 for the task's",
                         o->top_p);
    return MIL_OK;
}

/* What is set must mean something to this task. */
static enum mil_status check_taken(const struct task *t, const struct mil_eval_options *o,
                                   bool likelihood, struct mil_error *err) {
    const struct {
        const char *name;
        bool given;
        unsigned needs;
    } options[] = {
        {"template_name (--template)", o->template_name != NULL, TAKES_PROMPTS},
        {"max_new_tokens (--max-new-tokens)", o->max_new_tokens != 0, TAKES_PROMPTS},
        {"num_beams (--num-beams)", o->num_beams != 0, TAKES_PROMPTS},
        {"temperature (--temperature)", o->temperature != 0, TAKES_PROMPTS},
        {"top_p (--top-p)", o->top_p != 0, TAKES_PROMPTS},
        {"n_samples (--n-samples)", o->n_samples > 1, TAKES_SAMPLES},
        {"stride (--stride)", o->stride != 0, TAKES_STRIDE},
        {"outputs_path (--outputs)", o->outputs_path != NULL, TAKES_JUDGE},
        {"generator (--generator)", o->generator != NULL, TAKES_JUDGE},
    };
    unsigned takes = likelihood ? 0 : t->takes;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given && !(takes & options[i].needs))
            return error_set(err, MIL_USAGE, "task %s%s has no option %s: leave it out", t->name,
                             likelihood ? " scored by likelihood" : "", options[i].name);
    if ((t->takes & TAKES_EXECUTION) && !o->allow_code_execution)
        return error_set(err, MIL_USAGE,
                         "%s runs programs that the model wrote, and does so only when it is "
                         "allowed to: --allow-code-execution (allow_code_execution); they run "
                         "without network, other processes or a file to write, see docs/sandbox.md",
                         t->name);
    if (o->grader && (likelihood || !t->rules))
        return error_set(err, MIL_USAGE, "task %s%s has no graders: leave grader '%.64s' out",
                         t->name, likelihood ? " scored by likelihood" : "", o->grader);
    return MIL_OK;
}

static enum mil_status choose_scoring(const struct task_run *run, task_fn *fn,
                                      struct mil_error *err) {
    const char *scoring = run->options->scoring;
    *fn = run->task->run;
    if (!scoring || strcmp(scoring, "generate") == 0) return MIL_OK;
    if (strcmp(scoring, "likelihood") != 0)
        return error_set(err, MIL_USAGE, "scoring is '%.64s'; it is generate or likelihood",
                         scoring);
    *fn = run->task->likelihood;
    if (*fn) return MIL_OK;
    return error_set(err, MIL_USAGE,
                     "task %s has no scoring by likelihood: the commonsense tasks have",
                     run->task->name);
}

enum mil_status task_grader(const struct task *t, const char *name, size_t *chosen,
                            struct mil_error *err) {
    const struct grader *const *graders = t->rules->graders;
    struct str names = {0};
    *chosen = 0;
    if (!name) return MIL_OK;
    for (; graders[*chosen]; ++*chosen)
        if (strcmp(graders[*chosen]->name, name) == 0) return MIL_OK;
    for (size_t i = 0; graders[i]; i++) str_addf(&names, "%s%s", i ? ", " : "", graders[i]->name);
    error_set(err, MIL_USAGE, "task %s has no grader '%.64s'; it has: %s", t->name, name,
              str_c(&names));
    str_release(&names);
    return MIL_USAGE;
}

enum mil_status task_max_length(const struct task_run *run, int64_t *out, struct mil_error *err) {
    *out = run->options->max_length ? run->options->max_length : run->positions;
    if (*out <= run->positions) return MIL_OK;
    return error_set(err, MIL_USAGE, "max_length is %lld; the model was opened for %lld",
                     (long long)*out, (long long)run->positions);
}

/* By name or by what it begins with: downloads lose their suffix. */
static bool is_gzip(const char *path) {
    struct mapped_file file;
    if (str_ends(path, ".gz")) return true;
    if (file_map(path, &file, NULL) != MIL_OK) return false; /* its reader will say why */
    bool gzip = file.size >= 2 && file.data[0] == 0x1f && file.data[1] == 0x8b;
    file_unmap(&file);
    return gzip;
}

static enum mil_status find_data(const struct task_run *run, char path[PATH_CAP],
                                 struct mil_error *err) {
    TRY(task_locate(run->task, run->data_path, path, err));
    if (!is_gzip(path)) return MIL_OK;
    return error_set(err, MIL_INPUT, "%s: is compressed: unpack it (gunzip -c) and give that file",
                     path);
}

/* What is written must not replace the rows that are read, nor one file of it the other. */
static enum mil_status check_written(const struct task *t, const struct mil_eval_options *o,
                                     const char *data, struct mil_error *err) {
    const char *outputs = o->outputs_path ? o->outputs_path : TASK_OUTPUTS;
    const struct {
        const char *name, *path;
    } files[] = {{"the file of rows (--data)", data},
                 {"samples_path (--samples)", o->samples_path},
                 {"outputs_path (--outputs)", t->takes & TAKES_JUDGE ? outputs : NULL},
                 {"result_path (--out)", o->result_path}};
    for (size_t i = 1; i < sizeof files / sizeof *files; i++)
        for (size_t j = 0; j < i; j++)
            if (files[i].path && files[j].path && path_same_file(files[i].path, files[j].path))
                return error_set(err, MIL_USAGE,
                                 "%s: %s and %s are one file, which would be lost: name another",
                                 files[i].path, files[j].name, files[i].name);
    return MIL_OK;
}

/* What goes into results, records and the judge's file, which are JSON: told before anything runs. */
static enum mil_status check_texts(const struct task_run *run, const char *data,
                                   struct mil_error *err) {
    const struct checkpoint *from = run->model ? run->model->checkpoint : NULL;
    const struct {
        const char *name, *text;
    } texts[] = {{"the path of the model", from ? from->path : NULL},
                 {"the path of the rows (--data)", data},
                 {"generator (--generator)", run->options->generator}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n = texts[i].text ? strlen(texts[i].text) : 0;
        size_t valid = n ? utf8_valid_prefix(texts[i].text, n) : 0;
        if (valid < n)
            return error_set(err, MIL_USAGE,
                             "%s is no UTF-8 (byte %zu), and results are JSON, which holds nothing "
                             "else: name it in UTF-8",
                             texts[i].name, valid + 1);
    }
    return MIL_OK;
}

static enum mil_status prepare(struct task_run *run, const char *name, task_fn *fn,
                               char path[PATH_CAP], struct mil_error *err) {
    size_t chosen;
    TRY(find(name, &run->task, err));
    TRY(choose_scoring(run, fn, err));
    TRY(check_numbers(run->options, err));
    TRY(check_taken(run->task, run->options, *fn != run->task->run, err));
    if (run->options->grader) TRY(task_grader(run->task, run->options->grader, &chosen, err));
    if (run->options->resume && !run->options->samples_path)
        return error_set(err, MIL_USAGE,
                         "resume without samples_path: the file of samples holds what is done");
    TRY(find_data(run, path, err));
    TRY(check_texts(run, path, err));
    return check_written(run->task, run->options, path, err);
}

enum mil_status task_check(struct task_run *run, const char *name, struct mil_error *err) {
    char path[PATH_CAP];
    task_fn fn;
    TRY(prepare(run, name, &fn, path, err));
    return path_exists(path) ? MIL_OK : error_errno(err, ENOENT, "%s", path);
}

_Static_assert(sizeof((struct mil_eval_result *)0)->data_hash == HASH_HEX, "room for a hash");

enum mil_status task_evaluate(struct task_run *run, const char *name,
                              struct mil_eval_result *result, struct mil_error *err) {
    char path[PATH_CAP];
    task_fn fn;
    memset(result, 0, sizeof *result);
    TRY(prepare(run, name, &fn, path, err));
    TRY(prompt_needs_tokenizer(run->tokenizer, err)); /* no task does without */
    TRY(hash_file(path, result->data_hash, err));
    struct task_run found = *run;
    found.data_path = path;
    found.data_hash = result->data_hash;
    bool likelihood = fn != run->task->run;
    snprintf(result->task, sizeof result->task, "%s", run->task->name);
    snprintf(result->metric, sizeof result->metric, "%s", likelihood ? "acc" : run->task->metric);
    snprintf(result->grader, sizeof result->grader, "none"); /* match.c has some */
    snprintf(result->data, sizeof result->data, "%s", path);
    result->seed = run->options->seed;
    return fn(&found, result, err);
}
