/* SPDX-License-Identifier: Apache-2.0 */
/* init_data.c - see init_data.h.
 *
 * The data go the way of a training run: a configuration of the keys that concern them, its session, its plan.  The
 * session is that of the smallest LoRA: what the adapter will be does not matter for the model's own gradients. */
#include "api/init_data.h"

#include <string.h>

#include "train/plan.h"

static enum mil_status set(struct config *c, const char *key, json_t *value,
                           struct mil_error *err) {
    enum mil_status st =
        value ? config_set(c, key, value, "", MIL_USAGE, err) : error_nomem(err, 0);
    json_decref(value);
    return st;
}

static enum mil_status configure(struct config *c, const struct mil_adapter_options *o,
                                 struct mil_error *err) {
    TRY(config_init(c, err));
    TRY(set(c, "model_name_or_path", json_string(o->model), err));
    TRY(set(c, "output_dir", json_string(o->out ? o->out : "unused"), err));
    TRY(set(c, "dataset", json_string(o->dataset), err));
    TRY(set(c, "method", json_string("lora"), err));
    TRY(set(c, "target_modules", json_string("all-linear"), err));
    TRY(set(c, "r", json_integer(1), err));
    TRY(set(c, "num_train_epochs", json_integer(1), err));
    TRY(set(c, "warmup_steps", json_integer(0), err));
    TRY(set(c, "seed", json_integer((json_int_t)o->seed), err));
    if (o->template_name) TRY(set(c, "template", json_string(o->template_name), err));
    if (o->max_length) TRY(set(c, "max_length", json_integer(o->max_length), err));
    if (o->compute_dtype) TRY(set(c, "compute_dtype", json_string(o->compute_dtype), err));
    return config_check(c, err);
}

enum mil_status init_data_open(struct init_data *d, const struct mil_adapter_options *o,
                               struct mil_error *err) {
    struct memory_plan plan = {0};
    struct session *s = &d->session;
    memset(d, 0, sizeof *d);
    TRY(configure(&d->config, o, err));
    enum dtype compute = !strcmp(d->config.compute_dtype, "f32") ? DT_F32 : DT_BF16;
    TRY(backend_open("cpu", compute, &d->backend, err));
    TRY(session_open(s, &d->config, SESSION_ALL, err));
    enum mil_status st = plan_choose(s, d->backend, &plan, err);
    memory_plan_release(&plan);
    TRY(st);
    TRY(model_new(s->base, d->backend, s->longest, &d->model, err));
    return gradients_open(&d->gradients, s, d->model, o->batches > 0 ? o->batches : 8, err);
}

void init_data_release(struct init_data *d) {
    gradients_release(&d->gradients);
    model_free(&d->model);
    session_release(&d->session);
    backend_free(&d->backend);
    config_release(&d->config);
}
