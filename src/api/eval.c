/* SPDX-License-Identifier: Apache-2.0 */
/* eval.c - evaluation of an opened model, and results.json (docs/formats/results.md). */
#include "milora/eval.h"

#include <math.h>
#include <string.h>

#include "api/handle.h"
#include "core/mem.h"
#include "eval/tasks/task.h"
#include "io/hash.h"
#include "io/json.h"

enum { RESULT_VERSION = 1 };

/* Who the adapter is: every value of it, and what scales them. */
static enum mil_status adapter_identity(const struct adapter *a, char out[HASH_HEX],
                                        struct mil_error *err) {
    struct hash *h = hash_new();
    struct adapter_tensor t;
    if (!h) return error_nomem(err, 0);
    for (size_t i = 0; i < a->n; i++) {
        hash_add(h, &a->deltas[i].alpha, sizeof a->deltas[i].alpha);
        hash_add(h, &a->deltas[i].r, sizeof a->deltas[i].r);
    }
    for (size_t i = 0; i < adapter_tensor_count(a); i++) {
        adapter_tensor_at(a, i, &t);
        hash_add(h, t.name, strlen(t.name));
        hash_add(h, t.data, (size_t)(t.rows * t.cols) * sizeof *t.data);
    }
    hash_hex(h, out);
    hash_free(&h);
    return MIL_OK;
}

enum mil_status mil_eval(mil_model *model, const char *task, const char *data_path,
                         const struct mil_eval_options *options, mil_eval_progress_fn progress,
                         void *ctx, struct mil_eval_result *result, struct mil_error *err) {
    struct task_run run = {.model = model->model,
                           .tokenizer = model->tokenizer,
                           .positions = model->positions,
                           .data_path = data_path,
                           .options = options,
                           .progress = progress,
                           .ctx = ctx};
    char base[HASH_HEX], adapter[HASH_HEX];
    if (options->samples_path) { /* for the record beside them */
        TRY(checkpoint_fingerprint(model->checkpoint, base, err));
        run.model_hash = base;
        if (model->adapter) TRY(adapter_identity(model->adapter, adapter, err));
        if (model->adapter) run.adapter_hash = adapter;
    }
    return task_evaluate(&run, task, result, err);
}

enum mil_status mil_eval_check(const char *task, const char *data_path,
                               const struct mil_eval_options *options, struct mil_error *err) {
    struct task_run run = {.data_path = data_path, .options = options};
    return task_check(&run, task, err);
}

int mil_eval_is_share(const struct mil_eval_result *result) {
    return strcmp(result->metric, "accuracy") == 0 || strcmp(result->metric, "acc") == 0 ||
           str_starts(result->metric, "pass@");
}

double mil_eval_average(const struct mil_eval_result *results, size_t n, size_t *of) {
    double sum = 0;
    *of = 0;
    for (size_t i = 0; i < n; i++) {
        if (!mil_eval_is_share(&results[i])) continue;
        sum += results[i].value;
        ++*of;
    }
    return *of > 0 ? sum / (double)*of : 0;
}

/* Numbers that are not finite have no JSON form: null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *adapter_json(const struct adapter *a) {
    if (!a) return json_null();
    return json_pack("{s:s, s:I, s:s?}", "method", adapter_method_name(a), "modules",
                     (json_int_t)a->n, "base", a->base_path[0] ? a->base_path : NULL);
}

static json_t *settings_json(const struct mil_eval_result *r) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "limit", (json_int_t)r->limit,
                     "max_new_tokens", (json_int_t)r->max_new_tokens, "num_beams",
                     (json_int_t)r->num_beams, "max_length", (json_int_t)r->max_length, "stride",
                     (json_int_t)r->stride, "seed", (json_int_t)r->seed, "n_samples",
                     (json_int_t)r->n_samples, "temperature", r->temperature, "top_p", r->top_p);
}

static json_t *values_json(const struct mil_eval_result *r) {
    json_t *values = json_object();
    for (size_t i = 0; values && i < r->n_values; i++)
        json_object_set_new(values, r->values[i].name, number(r->values[i].value));
    return values;
}

/* NULL without memory. */
static json_t *result_json(const mil_model *model, const struct mil_eval_result *r) {
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:o, s:o, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:o}",
        "version", RESULT_VERSION, "program", "milora " MILORA_VERSION, "task", r->task, "metric",
        r->metric, "value", number(r->value), "std_error", number(r->std_error), "n",
        (json_int_t)r->n, "protocol", r->protocol, "data", r->data, "data_hash", r->data_hash,
        "grader", r->grader, "template", r->template_name, "model", model->checkpoint->path,
        "adapter", adapter_json(model->adapter), "backend", backend_describe(model->backend),
        "settings", settings_json(r), "values", values_json(r));
}

static enum mil_status result_root(const mil_model *model, const struct mil_eval_result *r,
                                   json_t **out, struct mil_error *err) {
    *out = result_json(model, r);
    return *out ? MIL_OK : error_nomem(err, 0); /* its texts are UTF-8: mil_eval refuses others */
}

static enum mil_status all_root(const mil_model *model, const struct mil_eval_result *results,
                                size_t n, json_t **out, struct mil_error *err) {
    size_t of = 0;
    double average = mil_eval_average(results, n, &of);
    json_t *list = json_array(), *one = NULL;
    *out = NULL;
    if (!list) return error_nomem(err, 0);
    for (size_t i = 0; i < n; i++) {
        enum mil_status st = result_root(model, &results[i], &one, err);
        if (st == MIL_OK && json_array_append_new(list, one) != 0) st = error_nomem(err, 0);
        if (st == MIL_OK) continue;
        json_decref(list);
        return st;
    }
    *out = json_pack("{s:i, s:s, s:o, s:o}", "version", RESULT_VERSION, "program",
                     "milora " MILORA_VERSION, "results", list, "average",
                     of > 0 ? number(average) : json_null());
    return *out ? MIL_OK : error_nomem(err, 0);
}

/* These take the root over. */
static enum mil_status write_root(json_t *root, const char *path, struct mil_error *err) {
    enum mil_status st = json_write_file(path, root, err);
    json_decref(root);
    return st;
}

static enum mil_status root_text(json_t *root, char **out, struct mil_error *err) {
    struct str text = {0};
    json_append(root, 2, &text);
    json_decref(root);
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK) *out = str_take(&text);
    str_release(&text);
    return st != MIL_OK || *out ? st : error_nomem(err, 0);
}

enum mil_status mil_eval_write(const mil_model *model, const struct mil_eval_result *result,
                               const char *path, struct mil_error *err) {
    json_t *root;
    TRY(result_root(model, result, &root, err));
    return write_root(root, path, err);
}

enum mil_status mil_eval_json(const mil_model *model, const struct mil_eval_result *result,
                              char **out, struct mil_error *err) {
    json_t *root;
    TRY(result_root(model, result, &root, err));
    return root_text(root, out, err);
}

enum mil_status mil_eval_write_all(const mil_model *model, const struct mil_eval_result *results,
                                   size_t n, const char *path, struct mil_error *err) {
    json_t *root;
    TRY(all_root(model, results, n, &root, err));
    return write_root(root, path, err);
}

enum mil_status mil_eval_json_all(const mil_model *model, const struct mil_eval_result *results,
                                  size_t n, char **out, struct mil_error *err) {
    json_t *root;
    TRY(all_root(model, results, n, &root, err));
    return root_text(root, out, err);
}

void mil_eval_text_free(char **text) {
    mem_free(*text);
    *text = NULL;
}
