/* SPDX-License-Identifier: Apache-2.0 */
/* outputs.c - rows -> prompts -> outputs, for every task that generates.
 *
 * Output k of the run is sample k % samples of row k / samples.  Prompts end in any order; the task
 * gets their outputs in this one, so that the file of samples does not depend on the batch, and a
 * stopped run leaves the first k of them.  The random numbers of output k are keyed by k.
 *
 * Stop strings: while an output grows, only its last tokens are decoded and searched, so a hit may
 * be seen late, never wrongly; the text is cut at the first one in the whole output afterwards. */
#include "eval/outputs.h"

#include <string.h>

#include "core/mem.h"
#include "eval/prompt.h"
#include "eval/resume.h"
#include "eval/rows.h"

enum { DEFAULT_BATCH = 8, MAX_BEAMS = 256, MAX_SAMPLES = 10000 };

struct row {
    int64_t number;
    void *data;
    char *prompt; /* NULL where no samples are written */
};
struct outputs {
    const struct task_run *run;
    const struct outputs_rules *rules;
    const struct outputs_hooks *hooks;
    struct outputs_facts *facts;
    struct prompter prompter;
    int64_t max_length, max_new, beams, longest, batch, samples;
    double temperature, top_p;
    struct row *rows;
    struct tokens *prompts; /* one a row */
    size_t n_rows, cap;
    /* Outputs [first, n) are generated; these arrays begin at `first`. */
    size_t first, n;
    struct tokens *asked; /* borrow their ids from prompts */
    struct generated *out;
    bool *done;
    size_t emitted; /* of all n */
    size_t tail;    /* tokens that a stop string may reach back */
    struct meter meter;
    struct resume resume;
    json_t *settings; /* for the record */
    struct sample_file file;
    struct str text;
    enum mil_status failed; /* inside the generator's call */
    struct mil_error error;
};

/* ---- rows to prompts ---- */

static enum mil_status grow(struct outputs *o, struct mil_error *err) {
    if (o->n_rows < o->cap) return MIL_OK;
    size_t cap = o->cap ? 2 * o->cap : 64;
    struct tokens *prompts = mem_realloc(MEM_TEXT, o->prompts, cap, sizeof *prompts);
    if (prompts) o->prompts = prompts;
    struct row *rows = mem_realloc(MEM_TEXT, o->rows, cap, sizeof *rows);
    if (rows) o->rows = rows;
    if (!prompts || !rows) return error_nomem(err, cap * sizeof *rows);
    o->cap = cap;
    return MIL_OK;
}

static enum mil_status encode(struct outputs *o, const struct eval_row *row, struct row *r,
                              struct tokens *prompt, struct mil_error *err) {
    struct str text = {0};
    enum mil_status st = prompter_encode(&o->prompter, row->messages, row->n, prompt, &text, err);
    if (st == MIL_OK && prompt->n == 0) st = error_set(err, MIL_INPUT, "the prompt has no tokens");
    if (st == MIL_OK && (int64_t)prompt->n >= o->max_length)
        st = error_set(err, MIL_INPUT,
                       "the prompt has %zu tokens; max_length %lld leaves no room for an answer",
                       prompt->n, (long long)o->max_length);
    if (st == MIL_OK && o->run->options->samples_path && !(r->prompt = str_take(&text)))
        st = error_nomem(err, 0);
    str_release(&text);
    return st;
}

static enum mil_status add_row(void *ctx, const json_t *json, int64_t number,
                               struct mil_error *err) {
    struct outputs *o = ctx;
    TRY(grow(o, err));
    struct row *r = &o->rows[o->n_rows];
    struct tokens *prompt = &o->prompts[o->n_rows++]; /* counted at once: the release sees it */
    struct outputs_row made = {.data = NULL};
    *r = (struct row){.number = number};
    memset(prompt, 0, sizeof *prompt);
    enum mil_status st = o->hooks->row(o->hooks->ctx, json, &made, err);
    r->data = made.data;
    if (st == MIL_OK) st = encode(o, &made.row, r, prompt, err);
    eval_row_release(&made.row);
    int64_t need = (int64_t)prompt->n + o->max_new;
    if (st == MIL_OK && need > o->max_length) o->facts->short_room++;
    if (need > o->longest) o->longest = need;
    return st;
}

static enum mil_status load(struct outputs *o, struct mil_error *err) {
    TRY(rows_each(o->run->data_path, o->run->options->limit, add_row, o, err));
    if (!checked_mul(o->n_rows, (size_t)o->samples, &o->n)) return error_nomem(err, 0);
    o->facts->rows = (int64_t)o->n_rows;
    o->facts->outputs = (int64_t)o->n;
    return MIL_OK;
}

/* ---- outputs to the task ---- */

static double value_so_far(const struct outputs *o) {
    return o->hooks->value ? o->hooks->value(o->hooks->ctx) : 0;
}

/* true, and where: the first of the stop strings in the text. */
static bool find_stop(const struct outputs *o, const char *text, size_t *at) {
    const char *first = NULL;
    const char *const *stop = o->rules->stop_strings;
    for (size_t i = 0; stop && stop[i]; i++) {
        const char *hit = strstr(text, stop[i]);
        if (hit && (!first || hit < first)) first = hit;
    }
    if (first) *at = (size_t)(first - text);
    return first != NULL;
}

/* Hand output k to the task and write its line. */
static enum mil_status emit(struct outputs *o, size_t k, struct output *out,
                            struct mil_error *err) {
    const struct row *row = &o->rows[k / (size_t)o->samples];
    struct sample_file *f = &o->file;
    out->row = row->number;
    out->sample = (int64_t)(k % (size_t)o->samples);
    out->data = row->data;
    samples_integer(f, "row", out->row);
    if (o->samples > 1) samples_integer(f, "sample", out->sample);
    TRY(o->hooks->output(o->hooks->ctx, out, f, err));
    samples_text(f, "output", out->text);
    samples_text(f, "prompt", row->prompt);
    samples_integer(f, "tokens", out->tokens);
    samples_bool(f, "ended", out->ended);
    TRY(samples_end(f, err));
    o->facts->cut += !out->ended;
    o->facts->all_tokens += out->tokens;
    o->emitted++;
    return MIL_OK;
}

static enum mil_status emit_generated(struct outputs *o, size_t k, struct mil_error *err) {
    const struct generated *g = &o->out[k - o->first];
    size_t cut;
    str_reset(&o->text);
    TRY(tokenizer_decode(o->run->tokenizer, g->ids, g->n, true, &o->text, err));
    TRY(str_status(&o->text, err));
    struct output out = {.text = str_c(&o->text), .tokens = (int64_t)g->n, .ended = g->stopped};
    if (find_stop(o, out.text, &cut)) {
        o->text.data[cut] = '\0';
        out.ended = true;
    }
    return emit(o, k, &out, err);
}

static void fail_with(struct outputs *o, enum mil_status st, const struct mil_error *err) {
    o->failed = st;
    o->error = *err;
}

/* Is there a stop string near the end of what prompt i has so far? */
static bool at_stop(struct outputs *o, size_t i) {
    const struct generated *g = &o->out[i];
    size_t n = g->n < o->tail ? g->n : o->tail, at;
    struct mil_error err;
    str_reset(&o->text);
    enum mil_status st =
        tokenizer_decode(o->run->tokenizer, g->ids + (g->n - n), n, true, &o->text, &err);
    if (st == MIL_OK) st = str_status(&o->text, &err);
    if (st != MIL_OK) fail_with(o, st, &err);
    return st != MIL_OK || find_stop(o, str_c(&o->text), &at);
}

static bool on_token(void *ctx, size_t prompt, int32_t id) {
    struct outputs *o = ctx;
    (void)id; /* it is the last of o->out[prompt] */
    o->facts->tokens++;
    bool go_on =
        meter_report(&o->meter, (int64_t)o->emitted, value_so_far(o), o->facts->tokens, false);
    return go_on && !(o->tail > 0 && o->beams == 1 && at_stop(o, prompt));
}

static bool on_done(void *ctx, size_t prompt, const struct generated *result) {
    struct outputs *o = ctx;
    struct mil_error err;
    (void)result; /* it is o->out[prompt] */
    if (o->meter.stopped || o->failed != MIL_OK) return false;
    o->done[prompt] = true;
    while (o->emitted < o->n && o->done[o->emitted - o->first]) {
        enum mil_status st = emit_generated(o, o->emitted, &err);
        if (st == MIL_OK) continue;
        fail_with(o, st, &err);
        return false;
    }
    bool last = o->emitted == o->n;
    return meter_report(&o->meter, (int64_t)o->emitted, value_so_far(o), o->facts->tokens, last) ||
           last;
}

/* ---- generation ---- */

static enum mil_status ask(struct outputs *o, struct mil_error *err) {
    size_t n = o->n - o->first;
    o->asked = mem_calloc(MEM_TEXT, n, sizeof *o->asked);
    o->out = mem_calloc(MEM_TEXT, n, sizeof *o->out);
    o->done = mem_calloc(MEM_TEXT, n, sizeof *o->done);
    if (!o->asked || !o->out || !o->done) return error_nomem(err, n * sizeof *o->asked);
    for (size_t i = 0; i < n; i++) o->asked[i] = o->prompts[(o->first + i) / (size_t)o->samples];
    return MIL_OK;
}

static enum mil_status run_generator(struct outputs *o, struct mil_error *err) {
    struct generate_options g = {.max_new_tokens = o->max_new,
                                 .temperature = o->temperature,
                                 .top_p = o->top_p,
                                 .num_beams = o->beams,
                                 .seed = o->run->options->seed,
                                 .first = o->first,
                                 .stop = o->prompter.stop,
                                 .n_stop = o->prompter.n_stop,
                                 .reuse = o->beams == 1}; /* prompts begin alike */
    struct generate_events events = {.token = on_token, .done = on_done, .ctx = o};
    struct generator *generator = NULL;
    int64_t n = (int64_t)(o->n - o->first), batch = o->batch < n ? o->batch : n;
    TRY(ask(o, err));
    TRY(generator_new(o->run->model, batch * o->beams, o->longest, &generator, err));
    enum mil_status st = generate(generator, o->asked, (size_t)n, &g, &events, o->out, err);
    generator_free(&generator);
    if (o->failed == MIL_OK) return st;
    if (err) *err = o->error;
    return o->failed;
}

static enum mil_status generate_rest(struct outputs *o, struct mil_error *err) {
    o->first = o->emitted;
    o->facts->resumed = (int64_t)o->first;
    meter_start(&o->meter, o->run->progress, o->run->ctx, (int64_t)o->n);
    o->meter.before = (int64_t)o->first;
    if (o->first == o->n) {
        meter_report(&o->meter, (int64_t)o->n, value_so_far(o), 0, true);
        return MIL_OK;
    }
    enum mil_status st = run_generator(o, err);
    o->facts->seconds = meter_seconds(&o->meter);
    return st;
}

/* ---- what an earlier run left ---- */

/* Line k of the file must be what this run would write as output k, but for the task's members. */
static enum mil_status take_line(void *ctx, const json_t *line, struct mil_error *err) {
    struct outputs *o = ctx;
    size_t k = o->emitted;
    const char *where = o->resume.path, *text = NULL, *prompt = NULL;
    struct output out = {.tokens = 0};
    int64_t row = 0, sample = 0;
    if (k == o->n) return resume_bad(&o->resume, "is more than this run has rows for", err);
    const struct row *r = &o->rows[k / (size_t)o->samples];
    bool ok =
        json_member_i64(line, where, "row", true, 1, INT64_MAX, &row, NULL) == MIL_OK &&
        json_member_i64(line, where, "sample", o->samples > 1, 0, INT64_MAX, &sample, NULL) ==
            MIL_OK &&
        json_member_i64(line, where, "tokens", true, 0, o->max_new, &out.tokens, NULL) == MIL_OK &&
        json_member_bool(line, where, "ended", true, &out.ended, NULL) == MIL_OK &&
        json_member_str(line, where, "output", true, &text, NULL) == MIL_OK &&
        json_member_str(line, where, "prompt", true, &prompt, NULL) == MIL_OK;
    if (!ok) return resume_bad(&o->resume, "is no sample of this task", err);
    if (row != r->number || sample != (int64_t)(k % (size_t)o->samples))
        return resume_bad(&o->resume, "is not the sample that belongs there", err);
    if (strcmp(prompt, r->prompt) != 0)
        return resume_bad(&o->resume, "has another prompt than this run", err);
    out.text = text;
    return emit(o, k, &out, err);
}

static enum mil_status record_settings(struct outputs *o, struct mil_error *err) {
    TRY(resume_settings(o->run, &o->settings, err));
    json_t *own = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:I}", "template", o->prompter.name, "opening",
        o->prompter.opening ? o->prompter.opening : "", "max_new_tokens", (json_int_t)o->max_new,
        "num_beams", (json_int_t)o->beams, "max_length", (json_int_t)o->max_length, "temperature",
        o->temperature, "top_p", o->top_p, "n_samples", (json_int_t)o->samples);
    int bad = own ? json_object_update(o->settings, own) : -1;
    json_decref(own);
    return bad ? error_nomem(err, 0) : MIL_OK;
}

/* ---- the whole ---- */

static enum mil_status check_settings(const struct outputs *o, struct mil_error *err) {
    if (o->beams > MAX_BEAMS)
        return error_set(err, MIL_USAGE, "num_beams is %lld; at most %d are possible",
                         (long long)o->beams, MAX_BEAMS);
    if (o->samples > MAX_SAMPLES)
        return error_set(err, MIL_USAGE, "n_samples is %lld; at most %d are possible",
                         (long long)o->samples, MAX_SAMPLES);
    if (o->samples > 1 && o->temperature == 0)
        return error_set(err, MIL_USAGE,
                         "n_samples %lld with temperature 0: the outputs of a row would all be "
                         "the same; give a temperature",
                         (long long)o->samples);
    if (o->beams > 1 && o->temperature > 0)
        return error_set(err, MIL_USAGE,
                         "num_beams %lld with temperature %g: beam search does not sample; set one "
                         "of them back (num_beams 1, or temperature 0)",
                         (long long)o->beams, o->temperature);
    return MIL_OK;
}

static enum mil_status settings(struct outputs *o, struct mil_error *err) {
    const struct mil_eval_options *given = o->run->options;
    const struct outputs_rules *r = o->rules;
    o->max_new = given->max_new_tokens ? given->max_new_tokens : r->max_new_tokens;
    o->beams = given->num_beams ? given->num_beams : r->num_beams;
    TRY(task_max_length(o->run, &o->max_length, err));
    o->batch = given->batch_size ? given->batch_size : DEFAULT_BATCH;
    o->samples = given->n_samples ? given->n_samples : r->samples;
    o->temperature = given->temperature > 0 ? given->temperature : r->temperature;
    o->top_p = given->top_p > 0 ? given->top_p : r->top_p;
    if (o->beams == 0) o->beams = 1;
    if (o->samples == 0) o->samples = 1;
    if (o->top_p == 0) o->top_p = 1;
    for (size_t i = 0; r->stop_strings && r->stop_strings[i]; i++) {
        size_t n = strlen(r->stop_strings[i]); /* a token has a byte at least */
        if (n > o->tail) o->tail = n;
    }
    TRY(check_settings(o, err));
    TRY(prompter_open(&o->prompter, o->run->tokenizer,
                      given->template_name ? given->template_name : r->template_name, err));
    if (!given->template_name) o->prompter.opening = r->opening; /* it continues the task's own */
    return MIL_OK;
}

static void describe(const struct outputs *o, struct mil_eval_result *r) {
    char decoding[128] = "greedy decoding", several[48] = "", opening[128] = "";
    if (o->beams > 1)
        snprintf(decoding, sizeof decoding, "beam search with %lld beams (score / length)",
                 (long long)o->beams);
    if (o->temperature > 0)
        snprintf(decoding, sizeof decoding, "sampling at temperature %g, top_p %g, seed %llu",
                 o->temperature, o->top_p, (unsigned long long)o->run->options->seed);
    if (o->samples > 1)
        snprintf(several, sizeof several, ", %lld outputs a row", (long long)o->samples);
    if (o->prompter.opening)
        snprintf(opening, sizeof opening, " followed by '%.100s'", o->prompter.opening);
    snprintf(r->template_name, sizeof r->template_name, "%s", o->prompter.name);
    snprintf(r->protocol, sizeof r->protocol, "%s prompt%s; %s, at most %lld new tokens%s",
             o->prompter.name, opening, decoding, (long long)o->max_new, several);
    r->limit = o->run->options->limit;
    r->max_new_tokens = o->max_new;
    r->num_beams = o->beams;
    r->max_length = o->max_length;
    r->n_samples = o->samples;
    r->temperature = o->temperature;
    r->top_p = o->top_p;
}

static void outputs_release(struct outputs *o) {
    for (size_t i = 0; i < o->n_rows; i++) {
        tokens_release(&o->prompts[i]);
        mem_free(o->rows[i].prompt);
        if (!o->hooks->release)
            mem_free(o->rows[i].data);
        else if (o->rows[i].data)
            o->hooks->release(o->rows[i].data);
    }
    if (o->out) generated_release(o->out, o->n - o->first);
    mem_free(o->out);
    mem_free(o->asked);
    mem_free(o->done);
    mem_free(o->prompts);
    mem_free(o->rows);
    json_decref(o->settings);
    resume_end(&o->resume);
    str_release(&o->text);
}

enum mil_status outputs_run(const struct task_run *run, const struct outputs_rules *rules,
                            const struct outputs_hooks *hooks, struct mil_eval_result *result,
                            struct outputs_facts *facts, struct mil_error *err) {
    struct outputs o = {.run = run, .rules = rules, .hooks = hooks, .facts = facts};
    enum mil_status st;
    memset(facts, 0, sizeof *facts);
    TRY_GOTO(settings(&o, err));
    TRY_GOTO(load(&o, err));
    if (o.longest > o.max_length) o.longest = o.max_length;
    describe(&o, result);
    TRY_GOTO(record_settings(&o, err));
    TRY_GOTO(resume_take(&o.resume, run, o.settings, &o.file, take_line, &o, err));
    TRY_GOTO(generate_rest(&o, err));
    st = samples_close(&o.file, err);
fail:
    if (st != MIL_OK) samples_close(&o.file, NULL);
    outputs_release(&o);
    return st;
}

void outputs_values(struct mil_eval_result *result, const struct outputs_facts *f) {
    if (f->resumed > 0) result_add(result, "resumed", (double)f->resumed);
    result_add(result, "cut_by_limit", (double)f->cut);
    result_add(result, "short_of_room", (double)f->short_room);
    result_add(result, "generated_tokens", (double)f->all_tokens);
    result_add(result, "seconds", f->seconds);
    result_add(result, "tokens_per_second", f->seconds > 0 ? (double)f->tokens / f->seconds : 0);
}
