/* SPDX-License-Identifier: Apache-2.0 */
/* init_run.c - the factors of all modules: jobs in the order of init_schedule.c, weights read where
 * they are mapped, memory bounded, rows told as they are made.
 *
 * Workers (one a thread) take the next job when its memory fits beside that of the jobs in flight;
 * nobody overtakes, so the largest is not starved, and a job always fits when nothing else runs.
 * What a job computes does not depend on who runs it nor on what runs beside it.  After a failure
 * or a request to stop no new job begins; of several failures the first in canonical order is
 * told.
 *
 * Seconds left: cost is in proportion to the time of one thread (init_schedule.c), the factor is
 * what the jobs computed so far took; jobs served by the cache do not count. */
#include "adapt/init_run.h"

#include <pthread.h>
#include <string.h>

#include "adapt/internal.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/threads.h"

enum { MAX_FLIGHT = 256 };

struct flight {
    bool busy, alone;
    double started;
};

struct init_run {
    struct adapter *adapter;
    const struct checkpoint *base;
    const struct adapter_init_hooks *hooks;
    struct init_job *jobs;
    size_t total;                    /* modules */
    size_t first, n, n_alone;        /* of the group at work: modules [first, first + n) */
    struct init_gradients gradients; /* theirs, of methods that need them */
    double cost_later;               /* of the groups after it, */
    size_t groups_later;             /* and their number */
    size_t budget;
    int threads;

    pthread_mutex_t lock; /* guards all below, and is held while the hooks are called */
    pthread_cond_t freed;
    size_t next, done, in_use;
    bool stopped;
    enum mil_status status;
    size_t failed_position;
    struct mil_error err;
    double work, work_cost; /* computed so far: seconds of one thread, and their cost */
    double cost_alone, cost_side_by_side; /* of the jobs not yet done */
    struct flight flights[MAX_FLIGHT];
};

/* ---- one job ---- */

static void prefix_module(const struct delta *d, struct mil_error *err) {
    char name[MODULE_NAME_CAP];
    module_name(name, d->layer, d->module);
    error_prefix(err, "%s: ", name);
}

static enum mil_status make_factors(const struct init_run *run, const struct delta *d,
                                    struct method_init *init, struct mil_error *err) {
    const struct adapter *a = run->adapter;
    float *copy = NULL;
    *init = (struct method_init){.m = d->m,
                                 .n = d->n,
                                 .r = d->r,
                                 .scale = delta_scale(d),
                                 .seed = a->options.seed,
                                 .stream = (uint32_t)module_number(d->layer, d->module),
                                 .options = &a->options,
                                 .cache = run->hooks->cache,
                                 .a0 = d->a0,
                                 .b0 = d->b0,
                                 .da = d->da,
                                 .db = d->db,
                                 .e = d->e};
    enum mil_status st;
    if (a->method->needs_gradient)
        init->g = run->gradients.of[(size_t)(d - a->deltas) - run->first];
    if (a->method->needs_weight) {
        struct weight_view w;
        const struct weight_view *v = checkpoint_module(run->base, d->layer, d->module);
        TRY_GOTO(weight_plain(v, &w, &copy, err));
        init->w = (struct svd_matrix){w.data, w.dtype, w.rows, w.cols};
    }
    st = a->method->init(init, err);
fail:
    if (st != MIL_OK) prefix_module(d, err);
    init->w.data = NULL;
    mem_free(copy);
    return st;
}

/* ---- seconds left ---- */

/* What a job of this kind does in one second, in seconds of one thread. */
static double speed(const struct init_run *run, bool alone) {
    return alone ? init_shared_speed(run->threads) : 1;
}

static double seconds_left(const struct init_run *run, double now) {
    if (!(run->work > 0 && run->work_cost > 0)) return -1;
    double rate = run->work / run->work_cost, flying = 0;
    for (int i = 0; i < MAX_FLIGHT; i++)
        if (run->flights[i].busy) flying += now - run->flights[i].started;
    double side = rate * run->cost_side_by_side / run->threads,
           alone = rate * run->cost_alone / speed(run, true);
    double left = side + alone - (run->cost_alone > 0 ? flying : flying / run->threads);
    /* of groups that follow, each has a pass over the samples of its own */
    double later = (double)run->groups_later * run->gradients.seconds +
                   rate * run->cost_later / speed(run, true);
    return (left > 0 ? left : 0) + later;
}

/* ---- the queue ---- */

static bool asked_to_stop(const struct init_run *run) {
    return run->hooks->stop && run->hooks->stop(run->hooks->ctx);
}

/* The next job below `end`, once its memory fits; NULL: there is none for this worker. */
static const struct init_job *take(struct init_run *run, size_t end) {
    const struct init_job *job = NULL;
    pthread_mutex_lock(&run->lock);
    for (;;) {
        run->stopped = run->stopped || (run->next < end && asked_to_stop(run));
        if (run->next >= end || run->stopped || run->status != MIL_OK) break;
        size_t need = run->jobs[run->next].bytes;
        if (run->in_use == 0 || (need <= run->budget && run->in_use <= run->budget - need)) {
            job = &run->jobs[run->next++];
            run->in_use += need ? need : 1; /* what takes no memory must not look like nothing */
            run->flights[threads_index() % MAX_FLIGHT] =
                (struct flight){true, job->alone, clock_seconds()};
            break;
        }
        pthread_cond_wait(&run->freed, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);
    return job;
}

static void tell_warnings(const struct init_run *run) {
    char line[512];
    while (run->hooks->cache && svd_cache_warning(run->hooks->cache, line)) log_warning("%s", line);
}

static void tell(struct init_run *run, const struct init_job *job, const struct method_init *init,
                 double seconds, double now) {
    tell_warnings(run);
    struct adapter_init_event e = {.index = run->done - 1,
                                   .total = run->total,
                                   .position = job->position,
                                   .delta = &run->adapter->deltas[job->position],
                                   .init = init,
                                   .seconds = seconds,
                                   .left = seconds_left(run, now)};
    if (run->hooks->progress) run->hooks->progress(run->hooks->ctx, &e);
}

static void fail(struct init_run *run, size_t position, enum mil_status st,
                 const struct mil_error *err) {
    if (run->status != MIL_OK && run->failed_position < position) return;
    run->status = st;
    run->failed_position = position;
    run->err = *err;
}

static void finish(struct init_run *run, const struct init_job *job, const struct method_init *init,
                   double seconds, enum mil_status st, const struct mil_error *err) {
    double now = clock_seconds();
    pthread_mutex_lock(&run->lock);
    run->in_use -= job->bytes ? job->bytes : 1;
    run->flights[threads_index() % MAX_FLIGHT].busy = false;
    *(job->alone ? &run->cost_alone : &run->cost_side_by_side) -= job->cost;
    if (st == MIL_OK && !init->cached) {
        run->work += seconds * speed(run, job->alone);
        run->work_cost += job->cost;
    }
    if (st != MIL_OK)
        fail(run, job->position, st, err);
    else
        run->done++;
    if (st == MIL_OK) tell(run, job, init, seconds, now);
    pthread_cond_broadcast(&run->freed);
    pthread_mutex_unlock(&run->lock);
}

/* Take jobs below `end` until there is none. */
static void work_until(struct init_run *run, size_t end) {
    const struct init_job *job;
    while ((job = take(run, end))) {
        struct method_init init;
        struct mil_error err = {0};
        double start = clock_seconds();
        enum mil_status st = make_factors(run, &run->adapter->deltas[job->position], &init, &err);
        finish(run, job, &init, clock_seconds() - start, st, &err);
    }
}

static void worker(void *ctx, int64_t begin, int64_t end) {
    struct init_run *run = ctx;
    (void)begin, (void)end;
    work_until(run, run->n);
}

/* ---- all ---- */

static struct init_job job_of(const struct adapter *a, const struct checkpoint *base, size_t i) {
    const struct delta *d = &a->deltas[i];
    double k = (double)(d->m < d->n ? d->m : d->n), size = (double)d->m * (double)d->n;
    struct init_job job = {.position = i};
    if (a->method->scratch) {
        job.cost = size * (a->method->needs_gradient ? k : (double)d->r);
        job.bytes = a->method->scratch(d->m, d->n, d->r);
    } else if (a->method->needs_weight) {
        const struct svd_request q = {.end = a->method->end,
                                      .rank = d->r,
                                      .seed = a->options.seed,
                                      .stream = (uint32_t)module_number(d->layer, d->module)};
        job.cost = size * k;
        job.bytes = svd_memory(d->m, d->n, &q);
    } else {
        job.cost = (double)(d->r * d->n);
    }
    if (a->method->needs_weight && !weight_is_plain(checkpoint_module(base, d->layer, d->module)))
        job.bytes += (size_t)(d->m * d->n) * sizeof(float);
    return job;
}

static enum mil_status stopped(const struct init_run *run, struct mil_error *err) {
    return error_set(err, MIL_INTERRUPTED, "stopped on request after %zu of %zu modules", run->done,
                     run->total);
}

static void prepare(struct init_run *run) {
    uint64_t factors = 0;
    for (size_t i = 0; i < run->total; i++) {
        const struct delta *d = &run->adapter->deltas[i];
        factors += (uint64_t)(d->r * (d->m + d->n)) * sizeof(float);
    }
    for (size_t i = 0; i < run->n; i++)
        run->jobs[i] = job_of(run->adapter, run->base, run->first + i);
    run->budget = init_budget(factors);
    run->next = 0;
    run->n_alone = init_schedule(run->jobs, run->n, run->threads, run->budget);
    for (size_t i = 0; i < run->n; i++)
        *(run->jobs[i].alone ? &run->cost_alone : &run->cost_side_by_side) += run->jobs[i].cost;
}

/* A single module, too, goes into a parallel region: its bits are then those of one thread. */
static void run_all(struct init_run *run) {
    work_until(run, run->n_alone);
    size_t rest = run->n - run->n_alone, workers = (size_t)run->threads;
    if (workers > rest) workers = rest;
    if (rest) parallel_for(workers > 2 ? (int64_t)workers : 2, 1, worker, run);
}

/* The modules of one group; their gradients, where the method needs any, are there. */
static enum mil_status run_group(struct init_run *run, struct mil_error *err) {
    prepare(run);
    mem_keep(run->budget / 2); /* every matrix takes the same large blocks */
    run_all(run);
    mem_keep(0);
    tell_warnings(run); /* of jobs that failed */
    if (run->status != MIL_OK && err) *err = run->err;
    TRY(run->status);
    return run->done < run->first + run->n ? stopped(run, err) : MIL_OK;
}

static enum mil_status run_group_from_gradients(struct init_run *run, struct mil_error *err) {
    enum mil_status st =
        init_gradients_open(&run->gradients, run->adapter, run->first, run->first + run->n, err);
    if (st == MIL_OK) st = init_gradients_run(&run->gradients, run->adapter, run->hooks, err);
    if (st == MIL_OK) st = run_group(run, err);
    init_gradients_release(&run->gradients);
    return st;
}

/* What follows the group at work. */
static void look_ahead(struct init_run *run, size_t budget) {
    const struct adapter *a = run->adapter;
    run->cost_later = 0;
    run->groups_later = 0;
    for (size_t i = run->first + run->n; i < run->total; i++)
        run->cost_later += job_of(a, run->base, i).cost;
    for (size_t i = run->first + run->n; i < run->total; run->groups_later++)
        i = init_group_end(a->deltas, a->n, i, budget);
}

static enum mil_status run_groups(struct init_run *run, struct mil_error *err) {
    const struct adapter *a = run->adapter;
    size_t budget = run->hooks->gradient_bytes;
    if (!a->method->needs_gradient) {
        run->n = run->total;
        return run_group(run, err);
    }
    if (budget == 0) budget = adapter_gradient_budget();
    for (; run->first < run->total; run->first += run->n) {
        run->n = init_group_end(a->deltas, a->n, run->first, budget) - run->first;
        look_ahead(run, budget);
        TRY(run_group_from_gradients(run, err));
    }
    return MIL_OK;
}

enum mil_status init_run(struct adapter *a, const struct checkpoint *base,
                         const struct adapter_init_hooks *hooks, struct mil_error *err) {
    struct init_run *run = mem_calloc(MEM_OTHER, 1, sizeof *run);
    if (!run) return error_nomem(err, sizeof *run);
    *run = (struct init_run){
        .adapter = a, .base = base, .hooks = hooks, .total = a->n, .threads = threads_count()};
    run->jobs = mem_calloc(MEM_OTHER, a->n, sizeof *run->jobs);
    bool locks = pthread_mutex_init(&run->lock, NULL) == 0;
    locks = locks && pthread_cond_init(&run->freed, NULL) == 0;
    enum mil_status st = run->jobs && locks ? MIL_OK : error_nomem(err, a->n * sizeof *run->jobs);
    if (st == MIL_OK) st = run_groups(run, err);
    if (locks) {
        pthread_cond_destroy(&run->freed);
        pthread_mutex_destroy(&run->lock);
    }
    mem_free(run->jobs);
    mem_free(run);
    return st;
}
