/* SPDX-License-Identifier: Apache-2.0 */
/* humaneval.c - the task humaneval: functions completed by the model, judged by running their tests.
 *
 * Protocol of Chen et al. 2021 (arXiv 2107.03374) as openai/human-eval has it: the raw prompt, greedy
 * for one output a problem, otherwise temperature 0.2 and top_p 0.95; an output is cut where a new
 * block begins.  With a template of conversations the prompt is a request (WizardCoder's words) and
 * the program is the answer's first code block.  pass@k is their unbiased estimator, averaged over
 * problems; its standard error is that of the mean over problems, sqrt(variance / problems), which
 * for one output a problem is sqrt(p (1 - p) / n). */
#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "eval/outputs.h"
#include "eval/tasks/humaneval_check.h"

static const char *const stop_strings[] = {"\nclass", "\ndef", "\n#", "\nif",
                                           "\nprint", "\n```", NULL};
static const char request[] = "Create a Python script for this problem:\n";

struct tally {
    int64_t outputs, passed;
};
struct row_data {
    struct problem problem;
    size_t index; /* of its tally */
};
struct humaneval {
    struct python python;
    bool chat; /* the prompt is a request, the answer prose with code */
    struct tally *tallies;
    size_t n, cap;
    int64_t outputs, ends[3]; /* enum code_end */
    struct str completion, program;
};

/* ---- rows ---- */

static void row_release(void *data) {
    struct row_data *d = data;
    problem_release(&d->problem);
    mem_free(d);
}

static enum mil_status add_tally(struct humaneval *h, size_t *index, struct mil_error *err) {
    if (h->n == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 64;
        struct tally *grown = mem_realloc(MEM_TEXT, h->tallies, cap, sizeof *grown);
        if (!grown) return error_nomem(err, cap * sizeof *grown);
        h->tallies = grown;
        h->cap = cap;
    }
    h->tallies[h->n] = (struct tally){0};
    *index = h->n++;
    return MIL_OK;
}

/* The prompt's one message; the row owns its text. */
static enum mil_status set_message(const struct humaneval *h, const struct problem *p,
                                   struct eval_row *row, struct mil_error *err) {
    json_t *text = h->chat ? json_sprintf("%s%s", request, p->prompt) : json_string(p->prompt);
    if (!text) return error_nomem(err, strlen(p->prompt));
    row->owner = text;
    row->messages[0] = (struct message){.role = ROLE_USER, .content = json_string_value(text)};
    row->n = 1;
    return MIL_OK;
}

static enum mil_status on_row(void *ctx, const json_t *json, struct outputs_row *out,
                              struct mil_error *err) {
    struct humaneval *h = ctx;
    struct row_data *d = mem_calloc(MEM_TEXT, 1, sizeof *d);
    if (!d) return error_nomem(err, sizeof *d);
    enum mil_status st = problem_parse(json, &d->problem, err);
    if (st == MIL_OK) st = add_tally(h, &d->index, err);
    if (st == MIL_OK) st = set_message(h, &d->problem, &out->row, err);
    if (st == MIL_OK)
        out->data = d;
    else
        row_release(d);
    return st;
}

/* ---- outputs ---- */

static enum mil_status on_output(void *ctx, const struct output *o, struct sample_file *f,
                                 struct mil_error *err) {
    struct humaneval *h = ctx;
    const struct row_data *d = o->data;
    struct code_verdict v;
    str_reset(&h->completion);
    str_reset(&h->program);
    if (h->chat)
        problem_completion(&d->problem, o->text, &h->completion);
    else
        str_add(&h->completion, o->text);
    problem_program(&d->problem, str_c(&h->completion), &h->program);
    TRY(str_status(&h->completion, err));
    TRY(str_status(&h->program, err));
    TRY(code_run(&h->python, str_c(&h->program), CODE_SECONDS, &v, err));
    struct tally *t = &h->tallies[d->index];
    t->outputs++;
    t->passed += v.end == CODE_PASSED;
    h->outputs++;
    h->ends[v.end]++;
    samples_text(f, "task_id", d->problem.task_id);
    samples_text(f, "verdict", code_end_name(v.end));
    samples_text(f, "reason", v.end == CODE_PASSED ? NULL : v.reason);
    return MIL_OK;
}

static double passed_share(const void *ctx) {
    const struct humaneval *h = ctx;
    return h->outputs ? (double)h->ends[CODE_PASSED] / (double)h->outputs : 0;
}

/* ---- the result ---- */

static void mean_pass(const struct humaneval *h, int64_t k, double *mean, double *error) {
    double sum = 0, squares = 0, n = (double)h->n;
    for (size_t i = 0; i < h->n; i++) {
        double p = pass_at_k(h->tallies[i].outputs, h->tallies[i].passed, k);
        sum += p;
        squares += p * p;
    }
    *mean = sum / n;
    *error = sqrt(fmax(0, squares / n - *mean * *mean) / n);
}

static void conclude(const struct humaneval *h, int64_t samples, struct mil_eval_result *r) {
    static const int64_t ks[] = {1, 10, 100};
    char name[32];
    r->n = (int64_t)h->n;
    for (size_t i = 0; i < sizeof ks / sizeof *ks && ks[i] <= samples; i++) {
        double mean, error;
        mean_pass(h, ks[i], &mean, &error);
        if (i == 0) {
            r->value = mean;
            r->std_error = error;
        }
        snprintf(name, sizeof name, "pass@%d", (int)ks[i]);
        result_add(r, name, mean);
        snprintf(name, sizeof name, "pass@%d_std_error", (int)ks[i]);
        result_add(r, name, error);
    }
    result_add(r, "passed", (double)h->ends[CODE_PASSED]);
    result_add(r, "failed", (double)h->ends[CODE_FAILED]);
    result_add(r, "timeout", (double)h->ends[CODE_TIMEOUT]);
}

static void describe(const struct humaneval *h, struct mil_eval_result *r) {
    result_protocol(
        r,
        "; %s; passed if the row's tests come to their end in Python %s within %g s and %llu "
        "MiB, sandboxed (seccomp%s)",
        h->chat ? "the first code block of the answer"
                : "cut at a new class, def, #, if, print or code fence",
        h->python.version, CODE_SECONDS, (unsigned long long)(CODE_MEMORY >> 20),
        sandbox_confines_reading() ? ", Landlock" : "");
}

/* ---- the whole ---- */

enum mil_status humaneval_run(const struct task_run *run, struct mil_eval_result *result,
                              struct mil_error *err) {
    const struct mil_eval_options *o = run->options;
    int64_t samples = o->n_samples ? o->n_samples : 1;
    struct humaneval h = {.chat = o->template_name && strcmp(o->template_name, "raw") != 0};
    struct outputs_rules rules = {.template_name = "raw",
                                  .max_new_tokens = 512,
                                  .num_beams = 1,
                                  .samples = 1,
                                  .temperature = samples > 1 ? 0.2 : 0,
                                  .top_p = samples > 1 ? 0.95 : 1,
                                  .stop_strings = h.chat ? NULL : stop_strings};
    struct outputs_hooks hooks = {.ctx = &h,
                                  .row = on_row,
                                  .output = on_output,
                                  .value = passed_share,
                                  .release = row_release};
    struct outputs_facts facts;
    REQUIRE(o->allow_code_execution); /* task.c refuses a run without */
    TRY(code_ready(&h.python, err));
    enum mil_status st = outputs_run(run, &rules, &hooks, result, &facts, err);
    if (st == MIL_OK) {
        describe(&h, result);
        conclude(&h, samples, result);
        outputs_values(result, &facts);
    }
    python_release(&h.python);
    mem_free(h.tallies);
    str_release(&h.completion);
    str_release(&h.program);
    return st;
}
