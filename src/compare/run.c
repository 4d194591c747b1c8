/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - the loop over cells and their steps.
 *
 * Seed by seed through all groups, so that a comparison that is stopped halfway has something to
 * compare.  The untouched model comes first: options that a task does not take show there, before
 * hours of training.  What is done is seen from files (steps.c), so being killed needs no care here. */
#include "compare/run.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare/results.h"
#include "compare/steps.h"
#include "core/mem.h"
#include "train/run.h"

struct runner {
    const struct compare_plan *plan;
    const struct mil_compare_options *options;
    mil_compare_progress_fn fn;
    void *ctx;
    struct results_store store;
    int lock;
    size_t *cells, n; /* to look at, in order */
    size_t at;        /* the present one */
    const struct compare_step *step;
    double noted; /* seconds of the step when its usage was last written */
    struct {
        char name[COMPARE_SLUG + 8];
        double seconds; /* of those that are done, and how many */
        size_t done, left;
    } times[COMPARE_STEPS];
    size_t n_times;
};

/* ---- what is left */

static size_t time_of(struct runner *r, const char *step) {
    size_t i = 0;
    while (i < r->n_times && strcmp(r->times[i].name, step) != 0) i++;
    if (i == r->n_times && i < COMPARE_STEPS)
        snprintf(r->times[r->n_times++].name, sizeof r->times->name, "%s", step);
    return i;
}

static void note_time(struct runner *r, const char *step, double seconds) {
    size_t i = time_of(r, step);
    r->times[i].seconds += seconds;
    r->times[i].done++;
}

/* By the means of the finished ones; -1 while there is none of a kind. */
static double time_left(const struct runner *r, double spent) {
    double sum = -spent;
    for (size_t i = 0; i < r->n_times; i++) {
        if (r->times[i].left && !r->times[i].done) return -1;
        if (r->times[i].left)
            sum += r->times[i].seconds / (double)r->times[i].done * (double)r->times[i].left;
    }
    return sum > 0 ? sum : 0;
}

/* Steps of a cell that are to be done (sign 1), or that are given up (-1). */
static enum mil_status count_steps(struct runner *r, size_t cell, int sign, struct mil_error *err) {
    struct compare_step steps[COMPARE_STEPS];
    size_t n = steps_list(r->plan, cell, steps);
    json_t *usage = NULL;
    TRY(usage_read(r->plan, cell, &usage, err));
    enum mil_status st = MIL_OK;
    for (size_t i = 0; i < n && st == MIL_OK; i++) {
        bool done = false;
        size_t t = time_of(r, steps[i].name);
        const json_t *spent = json_object_get(usage, steps[i].name);
        double seconds = json_number_value(json_object_get(spent, "seconds"));
        st = step_is_done(r->plan, cell, &steps[i], usage, &done, err);
        if (!done && (sign > 0 || r->times[t].left > 0)) r->times[t].left += (size_t)sign;
        if (done && sign > 0 && seconds > 0) note_time(r, steps[i].name, seconds);
    }
    json_decref(usage);
    return st;
}

/* ---- telling */

static void tell(struct runner *r, enum mil_compare_event event, double seconds,
                 const char *message, const char *log) {
    char id[COMPARE_ID + 64];
    size_t cell = r->cells[r->at];
    if (!r->fn) return;
    folder_relative(r->plan, cell, id);
    bool within = event == MIL_COMPARE_BEGIN || event == MIL_COMPARE_WAIT;
    struct mil_compare_progress progress = {.event = event,
                                            .cell = cell == BASE_CELL ? id : id + strlen("cells/"),
                                            .step = r->step ? r->step->name : NULL,
                                            .index = r->at + 1,
                                            .total = r->n,
                                            .seconds = seconds,
                                            .left = time_left(r, within ? seconds : 0),
                                            .message = message,
                                            .log = log};
    r->fn(r->ctx, &progress);
}

/* What is used is written down now and then, so that being killed loses little of the count; a
 * note that cannot be written is no reason to stop. */
static void on_tick(void *ctx, const struct process_result *so_far) {
    enum { NOTE_SECONDS = 5 };
    struct runner *r = ctx;
    tell(r, MIL_COMPARE_WAIT, so_far->seconds, NULL, NULL);
    if (so_far->seconds < r->noted + NOTE_SECONDS) return;
    r->noted = so_far->seconds;
    usage_note(r->plan, r->cells[r->at], r->step->name, so_far, NULL);
}

/* ---- one step */

static int64_t size_of(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 ? (int64_t)s.st_size : 0;
}

/* What is run, above what it says. */
static enum mil_status log_command(const char *path, const struct process_words *words,
                                   struct mil_error *err) {
    FILE *f = fopen(path, "ae");
    if (!f) return error_errno(err, errno, "%s", path);
    fputc('$', f);
    for (size_t i = 0; i < words->n; i++) fprintf(f, " %s", words->items[i]);
    fputc('\n', f);
    return fclose(f) == 0 ? MIL_OK : error_errno(err, errno, "%s", path);
}

static enum mil_status failed(struct runner *r, size_t cell, const struct process_result *result,
                              const char *log, int64_t from, struct mil_error *err) {
    struct str message = {0};
    process_failure(result, log, from, &message);
    enum mil_status st = str_status(&message, err);
    if (st == MIL_OK) tell(r, MIL_COMPARE_FAILED, result->seconds, str_c(&message), log);
    /* Wrong options would fail every cell in the same way. */
    if (st == MIL_OK && cell == BASE_CELL && result->code == 2)
        st = error_set(err, MIL_INPUT,
                       "the untouched model cannot be graded (%s), so no cell could be: %.350s",
                       r->step->name, str_c(&message));
    else if (st == MIL_OK)
        st = cell_state_write(r->plan, cell, r->step->name, str_c(&message), err);
    str_release(&message);
    return st;
}

static enum mil_status finish_step(struct runner *r, size_t cell, const struct step_command *c,
                                   const struct process_result *result, struct mil_error *err) {
    if (result->ok && *c->final && rename(c->out, c->final) != 0)
        return error_errno(err, errno, "%s", c->final);
    if (!result->ok && *c->out) unlink(c->out);
    return usage_add(r->plan, cell, r->step->name, result, err);
}

static enum mil_status run_command(struct runner *r, size_t cell, struct step_command *command,
                                   bool *ok, struct mil_error *err) {
    char log[PATH_CAP];
    struct process_result result;
    TRY(folder_path(r->plan, cell, "log.txt", log, err));
    TRY(log_command(log, &command->words, err));
    int64_t from = size_of(log);
    struct process_options options = {.out_path = *command->out ? command->out : NULL,
                                      .log_path = log,
                                      .keep_fd = r->lock,
                                      .tick = on_tick,
                                      .ctx = r};
    tell(r, MIL_COMPARE_BEGIN, 0, NULL, NULL);
    TRY(process_run(&command->words, &options, &result, err));
    TRY(finish_step(r, cell, command, &result, err));
    *ok = result.ok;
    if (result.interrupted)
        return error_set(err, MIL_INTERRUPTED,
                         "stopped on request; the same command goes on from here");
    if (!result.ok) return failed(r, cell, &result, log, from, err);
    size_t t = time_of(r, r->step->name);
    note_time(r, r->step->name, result.seconds);
    if (r->times[t].left) r->times[t].left--;
    tell(r, MIL_COMPARE_STEP, result.seconds, NULL, NULL);
    return MIL_OK;
}

static enum mil_status run_step(struct runner *r, size_t cell, const struct compare_step *step,
                                bool *ok, struct mil_error *err) {
    struct step_command command;
    r->step = step;
    r->noted = 0;
    TRY(usage_close(r->plan, cell, err));
    TRY(step_prepare(r->plan, cell, step, err));
    enum mil_status st =
        step_command(r->plan, cell, step, r->options->program, r->options->threads, &command, err);
    if (st == MIL_OK) st = run_command(r, cell, &command, ok, err);
    words_release(&command.words);
    r->step = NULL;
    return st;
}

/* ---- one cell */

static enum mil_status steps_run(struct runner *r, size_t cell, bool *ok, struct mil_error *err) {
    struct compare_step steps[COMPARE_STEPS];
    size_t n = steps_list(r->plan, cell, steps);
    *ok = true;
    for (size_t i = 0; i < n && *ok; i++) {
        bool done = false;
        json_t *usage = NULL;
        if (train_stop_requested())
            return error_set(err, MIL_INTERRUPTED,
                             "stopped on request; the same command goes on from here");
        TRY(usage_read(r->plan, cell, &usage, err));
        enum mil_status st = step_is_done(r->plan, cell, &steps[i], usage, &done, err);
        json_decref(usage);
        if (st == MIL_OK && !done) st = run_step(r, cell, &steps[i], ok, err);
        if (st != MIL_OK) return st;
    }
    return MIL_OK;
}

/* cell.json comes last: a cell that has one needs nothing any more. */
static enum mil_status run_cell(struct runner *r, size_t cell, struct mil_error *err) {
    bool ok;
    TRY(steps_run(r, cell, &ok, err));
    if (ok && cell != BASE_CELL) TRY(folder_thin(r->plan, cell, err));
    if (ok) TRY(cell_state_write(r->plan, cell, NULL, NULL, err));
    if (!ok) TRY(count_steps(r, cell, -1, err));
    TRY(results_write(&r->store, err));
    if (ok) tell(r, MIL_COMPARE_CELL, 0, NULL, NULL);
    return MIL_OK;
}

/* ---- which cells */

static bool matches(const struct compare_plan *p, size_t cell, const char *pattern) {
    char id[COMPARE_ID + 32];
    const char *names[3];
    if (!pattern) return true;
    if (cell == BASE_CELL) return fnmatch(pattern, "base", 0) == 0;
    const struct compare_group *g = plan_group_of(p, cell);
    plan_cell_id(p, cell, id);
    names[0] = id;
    names[1] = g->id;
    names[2] = p->methods[g->method].name;
    for (int i = 0; i < 3; i++)
        if (fnmatch(pattern, names[i], 0) == 0) return true;
    return false;
}

static enum mil_status choose_cells(struct runner *r, struct mil_error *err) {
    const struct compare_plan *p = r->plan;
    r->cells = mem_alloc(MEM_OTHER, p->n_cells + 1, sizeof *r->cells);
    if (!r->cells) return error_nomem(err, p->n_cells * sizeof *r->cells);
    if (p->base && p->n_tasks && matches(p, BASE_CELL, r->options->only))
        r->cells[r->n++] = BASE_CELL;
    for (size_t s = 0; s < p->seeds.n; s++)
        for (size_t g = 0; g < p->n_groups; g++) {
            size_t cell = p->groups[g].first + s;
            if (matches(p, cell, r->options->only)) r->cells[r->n++] = cell;
        }
    if (r->n == 0)
        return error_set(err, MIL_USAGE,
                         "--only '%.100s': no cell, group or method is called so; --dry-run lists "
                         "them",
                         r->options->only);
    return MIL_OK;
}

/* Files of a cell that is done may have been taken away, to have those steps done anew. */
static enum mil_status is_whole(struct runner *r, size_t cell, bool *out, struct mil_error *err) {
    struct compare_step steps[COMPARE_STEPS];
    size_t n = steps_list(r->plan, cell, steps);
    json_t *usage = NULL;
    TRY(usage_read(r->plan, cell, &usage, err));
    enum mil_status st = MIL_OK;
    *out = true;
    for (size_t i = 0; i < n && st == MIL_OK && *out; i++)
        st = step_is_done(r->plan, cell, &steps[i], usage, out, err);
    json_decref(usage);
    return st;
}

/* A cell that failed is left alone, unless it shall be tried again. */
static enum mil_status is_settled(struct runner *r, size_t cell, bool *out, struct mil_error *err) {
    json_t *state;
    char path[PATH_CAP];
    TRY(cell_state_read(r->plan, cell, &state, err));
    const char *status = json_string_value(json_object_get(state, "status"));
    bool failed = status && strcmp(status, "failed") == 0;
    *out = status && !(failed && r->options->retry_failed);
    json_decref(state);
    if (!status) return MIL_OK;
    if (!failed) TRY(is_whole(r, cell, out, err));
    if (*out) return MIL_OK;
    TRY(folder_path(r->plan, cell, "cell.json", path, err));
    return unlink(path) == 0 || errno == ENOENT ? MIL_OK : error_errno(err, errno, "%s", path);
}

static enum mil_status run_all(struct runner *r, struct mil_error *err) {
    bool *settled = mem_calloc(MEM_OTHER, r->n, sizeof *settled);
    enum mil_status st = settled ? MIL_OK : error_nomem(err, r->n);
    for (size_t i = 0; i < r->n && st == MIL_OK; i++) {
        st = is_settled(r, r->cells[i], &settled[i], err);
        if (st == MIL_OK && !settled[i]) st = count_steps(r, r->cells[i], 1, err);
    }
    for (r->at = 0; r->at < r->n && st == MIL_OK; r->at++) {
        if (settled[r->at])
            tell(r, MIL_COMPARE_SKIPPED, 0, NULL, NULL);
        else
            st = run_cell(r, r->cells[r->at], err);
    }
    mem_free(settled);
    return st;
}

/* ---- the whole */

static enum mil_status fill_result(const struct compare_plan *p, struct mil_compare_result *out,
                                   struct mil_error *err) {
    for (size_t i = 0; i < p->n_cells; i++) {
        json_t *state;
        TRY(cell_state_read(p, i, &state, err));
        const char *status = json_string_value(json_object_get(state, "status"));
        if (!status)
            out->pending++;
        else if (strcmp(status, "done") == 0)
            out->done++;
        else
            out->failed++;
        json_decref(state);
    }
    json_t *state = NULL;
    if (p->base) TRY(cell_state_read(p, BASE_CELL, &state, err));
    const char *status = json_string_value(json_object_get(state, "status"));
    if (status && strcmp(status, "failed") == 0) out->failed++;
    json_decref(state);
    TRY(path_join(out->results, p->output_dir, "results.json", err));
    TRY(path_join(out->markdown, p->output_dir, "results.md", err));
    return path_join(out->html, p->output_dir, "report.html", err);
}

static enum mil_status work(struct runner *r, struct mil_error *err) {
    if (r->options->report_only) {
        TRY(folder_check(r->plan, err));
        TRY(results_keep_machine(&r->store, err));
        return results_write(&r->store, err);
    }
    TRY(choose_cells(r, err));
    TRY(plan_check_data(r->plan, err));
    TRY(folder_open(r->plan, &r->lock, err));
    enum mil_status st = run_all(r, err);
    if (st == MIL_OK) return results_write(&r->store, err);
    results_write(&r->store, NULL); /* of what there is; the first error counts */
    return st;
}

enum mil_status compare_run(const struct compare_plan *p, const struct mil_compare_options *options,
                            mil_compare_progress_fn fn, void *ctx, struct mil_compare_result *out,
                            struct mil_error *err) {
    struct runner *r = mem_calloc(MEM_OTHER, 1, sizeof *r);
    memset(out, 0, sizeof *out);
    if (!r) return error_nomem(err, sizeof *r);
    *r = (struct runner){.plan = p, .options = options, .fn = fn, .ctx = ctx, .lock = -1};
    enum mil_status st = results_open(&r->store, p, err);
    if (st == MIL_OK) st = work(r, err);
    if (st == MIL_OK) st = fill_result(p, out, err);
    results_release(&r->store);
    if (r->lock >= 0) close(r->lock);
    mem_free(r->cells);
    mem_free(r);
    return st;
}
