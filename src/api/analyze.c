/* SPDX-License-Identifier: Apache-2.0 */
/* analyze.c - the analyses of milora/analyze.h on stored models, and their directories. */
#include "milora/analyze.h"

#include "analysis/spectrum.h"
#include "api/output.h"
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
