/* SPDX-License-Identifier: Apache-2.0 */
/* analyze.c - the analyses of milora/analyze.h on stored models, and their directories. */
#include "milora/analyze.h"

#include "analysis/forgetting.h"
#include "analysis/spectrum.h"
#include "api/handle.h"
#include "api/output.h"
#include "core/mem.h"
#include "io/file.h"

static enum mil_status write_text(const char *dir, const char *name, const struct str *text,
                                  struct mil_error *err) {
    char path[PATH_CAP];
    TRY(str_status(text, err));
    TRY(path_join(path, dir, name, err));
    return file_write(path, text->data, text->len, err);
}

static enum mil_status write_dir(const struct mil_spectrum *s, const char *dir,
                                 struct mil_error *err) {
    struct stage stage = {0};
    struct str json = {0}, svg = {0};
    TRY(stage_open(&stage, dir, false, err));
    spectrum_json(s, true, &json);
    spectrum_svg(s, &svg);
    enum mil_status st = write_text(stage.tmp, "spectrum.json", &json, err);
    if (st == MIL_OK) st = write_text(stage.tmp, "spectrum.svg", &svg, err);
    if (st == MIL_OK) st = stage_commit(&stage, err);
    stage_abort(&stage);
    str_release(&svg);
    str_release(&json);
    return st;
}

enum mil_status mil_spectrum_run(const struct mil_spectrum_options *options, mil_spectrum_fn fn,
                                 void *ctx, mil_spectrum **result, struct mil_error *err) {
    struct checkpoint *base = NULL;
    *result = NULL;
    if (!options->model) return error_set(err, MIL_USAGE, "model must be named");
    if (options->out) TRY(output_probe(options->out, err));
    TRY(checkpoint_open(options->model, CHECKPOINT_WEIGHTS, &base, err));
    enum mil_status st = spectrum_run(base, options, fn, ctx, result, err);
    checkpoint_free(&base);
    if (st == MIL_OK && options->out) st = write_dir(*result, options->out, err);
    if (st != MIL_OK) spectrum_free(result);
    return st;
}

void mil_spectrum_free(mil_spectrum **s) {
    spectrum_free(s);
}

size_t mil_spectrum_rows(const mil_spectrum *s) {
    return s->n_rows;
}

const struct mil_spectrum_row *mil_spectrum_row(const mil_spectrum *s, size_t i) {
    REQUIRE(i < s->n_rows);
    return &s->rows[i];
}

size_t mil_spectrum_types(const mil_spectrum *s) {
    return s->n_types;
}

const struct mil_spectrum_type *mil_spectrum_type(const mil_spectrum *s, size_t i) {
    REQUIRE(i < s->n_types);
    return &s->types[i];
}

int64_t mil_spectrum_rank(const mil_spectrum *s) {
    return s->rank;
}

double mil_spectrum_seconds(const mil_spectrum *s) {
    return s->seconds;
}

enum mil_status mil_spectrum_json(const mil_spectrum *s, int values, struct mil_text *text,
                                  struct mil_error *err) {
    struct str out = {0};
    spectrum_json(s, values != 0, &out);
    enum mil_status st = str_status(&out, err);
    if (st == MIL_OK) st = mil_text_add(text, out.data, out.len, err);
    str_release(&out);
    return st;
}

/* ---- forgetting */

enum { DEFAULT_WINDOW = 1024 };

/* What was opened for one run; models are of those subjects that are no adapters. */
struct forgetting_inputs {
    const struct mil_forgetting_options *options;
    mil_model *base;
    struct corpus text;
    struct forgetting_subject *subjects;
    mil_model **models;
    struct adapter **adapters;
    int64_t window;
};

static void inputs_release(struct forgetting_inputs *in) {
    for (size_t i = 0; i < in->options->n_adapters; i++) {
        if (in->adapters) adapter_free(&in->adapters[i]);
        if (in->models) mil_model_free(&in->models[i]);
    }
    mem_free(in->adapters);
    mem_free(in->models);
    mem_free(in->subjects);
    corpus_release(&in->text);
    mil_model_free(&in->base);
}

/* The smallest number of positions that a model was opened for decides. */
static enum mil_status choose_window(struct forgetting_inputs *in, struct mil_error *err) {
    int64_t asked = in->options->max_length, most = in->base->positions;
    for (size_t i = 0; i < in->options->n_adapters; i++)
        if (in->models[i] && in->models[i]->positions < most) most = in->models[i]->positions;
    in->window = asked > 0 ? asked : most < DEFAULT_WINDOW ? most : DEFAULT_WINDOW;
    if (asked >= 0 && in->window <= most) return MIL_OK;
    return error_set(
        err, MIL_USAGE,
        "max_length is %lld; it must be between 1 and the %lld positions of the models",
        (long long)asked, (long long)most);
}

static enum mil_status load_text(struct forgetting_inputs *in, struct mil_error *err) {
    const struct mil_forgetting_options *o = in->options;
    int64_t bytes = 0;
    if (!in->base->tokenizer)
        return error_set(err, MIL_USAGE,
                         "%s: has no tokenizer, text cannot be encoded; put tokenizer.json or "
                         "tokenizer.model there",
                         o->model);
    TRY(corpus_load(o->data, in->base->tokenizer, &in->text, err));
    /* A tokenizer may add a token to a text of nothing. */
    for (int64_t t = 0; t < in->text.n_tokens; t++) bytes += in->text.bytes[t];
    return bytes > 0 ? MIL_OK : error_set(err, MIL_INPUT, "%s: holds no text", o->data);
}

static enum mil_status open_other(struct forgetting_inputs *in, size_t i, const char *path,
                                  struct mil_error *err) {
    struct mil_model_options o = {.path = path, .compute = in->options->compute};
    TRY(mil_model_open(&o, &in->models[i], err));
    in->subjects[i].model = in->models[i]->model;
    if (mil_model_vocab(in->models[i]) == mil_model_vocab(in->base)) return MIL_OK;
    return error_set(err, MIL_MISMATCH,
                     "%s: has a vocabulary of %lld, the base %s one of %lld; the same tokens must "
                     "mean the same to both",
                     path, (long long)mil_model_vocab(in->models[i]), in->options->model,
                     (long long)mil_model_vocab(in->base));
}

/* A directory without adapter_config.json but with config.json is a model, and so is a file. */
static enum mil_status open_subject(struct forgetting_inputs *in, size_t i, struct mil_error *err) {
    const char *path = in->options->adapters[i];
    char adapter[PATH_CAP], config[PATH_CAP];
    TRY(path_join(adapter, path, "adapter_config.json", err));
    TRY(path_join(config, path, "config.json", err));
    in->subjects[i].name = path;
    bool model = path_exists(path) && !path_is_dir(path);
    if (!path_exists(adapter) && (model || path_exists(config)))
        return open_other(in, i, path, err);
    TRY(adapter_load(path, in->base->checkpoint, &in->adapters[i], err));
    in->subjects[i].adapter = in->adapters[i];
    return MIL_OK;
}

static enum mil_status inputs_open(struct forgetting_inputs *in, struct mil_error *err) {
    const struct mil_forgetting_options *o = in->options;
    struct mil_model_options base = {.path = o->model, .compute = o->compute};
    if (!o->model || !o->data || o->n_adapters == 0)
        return error_set(err, MIL_USAGE,
                         "forgetting needs a model, an adapter or more, and a text");
    in->subjects = mem_calloc(MEM_OTHER, o->n_adapters, sizeof *in->subjects);
    in->models = mem_calloc(MEM_OTHER, o->n_adapters, sizeof(mil_model *));
    in->adapters = mem_calloc(MEM_OTHER, o->n_adapters, sizeof(struct adapter *));
    if (!in->subjects || !in->models || !in->adapters) return error_nomem(err, 0);
    TRY(mil_model_open(&base, &in->base, err));
    for (size_t i = 0; i < o->n_adapters; i++) TRY(open_subject(in, i, err));
    TRY(choose_window(in, err));
    return load_text(in, err);
}

enum mil_status mil_forgetting_run(const struct mil_forgetting_options *options,
                                   mil_eval_progress_fn progress, void *ctx,
                                   struct mil_forgetting *results, struct mil_error *err) {
    struct forgetting_inputs in = {.options = options};
    if (options->max_tokens < 0)
        return error_set(err, MIL_USAGE, "max_tokens is %lld; it must be 1 or more, or 0 for all",
                         (long long)options->max_tokens);
    enum mil_status st = inputs_open(&in, err);
    if (st == MIL_OK) {
        struct forgetting_job job = {.base = in.base->model,
                                     .text = &in.text,
                                     .window = in.window,
                                     .max_tokens = options->max_tokens,
                                     .subjects = in.subjects,
                                     .n = options->n_adapters};
        st = forgetting_measure(&job, progress, ctx, results, err);
    }
    inputs_release(&in);
    return st;
}
