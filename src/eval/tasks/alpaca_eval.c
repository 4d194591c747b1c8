/* SPDX-License-Identifier: Apache-2.0 */
/* alpaca_eval.c - the model's outputs for AlpacaEval's instructions, in the form that its judge
 * (tatsu-lab/alpaca_eval, `--model_outputs`) reads: a list of objects with `dataset`, `instruction`,
 * `output` (trimmed of white space, as that program does), `generator`, `datasplit`.
 *
 * The judge is a model behind a service and stays outside; the score here is only how many outputs
 * there are.  Prompt and decoding are the paper's: Alpaca's template, greedy, 2048 new tokens. */
#include <math.h>
#include <string.h>

#include "eval/graders/grade.h"
#include "eval/outputs.h"

struct collected {
    const struct task_run *run;
    const char *path;
    const char *generator;
    char model_path[PATH_CAP]; /* that it may be the end of */
    json_t *list;
    struct str trimmed;
};

static enum mil_status on_row(void *ctx, const json_t *json, struct outputs_row *out,
                              struct mil_error *err) {
    const char *instruction = NULL, *input = NULL, *unused = NULL;
    (void)ctx;
    TRY(json_member_str(json, "the row", "instruction", true, &instruction, err));
    TRY(json_member_str(json, "the row", "input", false, &input, err));
    TRY(json_member_str(json, "the row", "dataset", false, &unused, err));
    TRY(json_member_str(json, "the row", "datasplit", false, &unused, err));
    out->row.messages[0] =
        (struct message){.role = ROLE_USER, .content = instruction, .input = input};
    out->row.n = 1;
    out->row.owner = json_incref((json_t *)json);
    out->data = json_incref((json_t *)json);
    return MIL_OK;
}

static void row_release(void *data) {
    json_decref(data);
}

static const char *text_or(const json_t *row, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : otherwise;
}

static enum mil_status on_output(void *ctx, const struct output *o, struct sample_file *f,
                                 struct mil_error *err) {
    struct collected *c = ctx;
    const json_t *row = o->data;
    const char *dataset = text_or(row, "dataset", "alpaca_eval");
    grade_trimmed(o->text, &c->trimmed);
    TRY(str_status(&c->trimmed, err));
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "dataset", dataset, "instruction",
                  text_or(row, "instruction", ""), "output", str_c(&c->trimmed), "generator",
                  c->generator, "datasplit", text_or(row, "datasplit", "eval"));
    if (!object || json_array_append_new(c->list, object) != 0) return error_nomem(err, 0);
    samples_text(f, "dataset", dataset);
    return MIL_OK;
}

static double count(const void *ctx) {
    return (double)json_array_size(((const struct collected *)ctx)->list);
}

/* Unless one is given: the last component of the model's path, whatever slashes end it. */
static void name_generator(struct collected *c) {
    const struct checkpoint *from = c->run->model->checkpoint;
    char *path = c->model_path;
    snprintf(path, sizeof c->model_path, "%s", from ? from->path : "milora");
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0';
    c->generator = c->run->options->generator ? c->run->options->generator : path_base(path);
}

/* Told now rather than after hours of generation. */
static enum mil_status check_place(const char *path, struct mil_error *err) {
    struct atomic_file file = {0};
    enum mil_status st = atomic_open(&file, path, err);
    atomic_abort(&file);
    return st;
}

static const struct outputs_rules rules = {
    .template_name = "alpaca", .max_new_tokens = 2048, .num_beams = 1};

enum mil_status alpaca_eval_run(const struct task_run *run, struct mil_eval_result *result,
                                struct mil_error *err) {
    const char *path = run->options->outputs_path;
    struct collected c = {.run = run, .path = path ? path : TASK_OUTPUTS, .list = json_array()};
    struct outputs_hooks hooks = {
        .ctx = &c, .row = on_row, .output = on_output, .value = count, .release = row_release};
    struct outputs_facts facts;
    if (!c.list) return error_nomem(err, 0);
    name_generator(&c);
    enum mil_status st = check_place(c.path, err);
    if (st == MIL_OK) st = outputs_run(run, &rules, &hooks, result, &facts, err);
    if (st == MIL_OK) st = json_write_file(c.path, c.list, err);
    if (st == MIL_OK) {
        result_protocol(result, "; outputs for a judge, none of them graded here");
        result->n = facts.outputs;
        result->value = (double)facts.outputs;
        result->std_error = (double)NAN;
        outputs_values(result, &facts);
    }
    json_decref(c.list);
    str_release(&c.trimmed);
    return st;
}
