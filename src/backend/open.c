/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - the table of backends, and what is the same for all of them: memory, streams, status. */
#include <stdio.h>
#include <string.h>

#include "backend/ops.h"

static const struct {
    const char *name;
    enum mil_status (*open)(enum dtype compute, struct backend **out, struct mil_error *err);
} backends[] = {
    {"cpu", backend_cpu_open},
    {"cuda", backend_cuda_open},
};

enum mil_status backend_open(const char *name, enum dtype compute, struct backend **out,
                             struct mil_error *err) {
    *out = NULL;
    if (compute != DT_BF16 && compute != DT_F32 && compute != DT_F64)
        return error_set(err, MIL_UNSUPPORTED, "compute type %s: use bf16 or f32 (or f64, to test)",
                         dtype_name(compute));
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(name, backends[i].name) == 0) return backends[i].open(compute, out, err);
    return error_set(err, MIL_UNSUPPORTED, "backend '%s': no such backend; there are cpu and cuda",
                     name);
}

void backend_free(struct backend **b) {
    if (*b) (*b)->ops->close(*b);
    *b = NULL;
}

const char *backend_name(const struct backend *b) {
    return b->name;
}
enum dtype backend_act(const struct backend *b) {
    return b->act;
}
enum dtype backend_real(const struct backend *b) {
    return b->real;
}
const char *backend_describe(const struct backend *b) {
    return b->ops->describe(b);
}
bool backend_shares_host(const struct backend *b) {
    return b->shares_host;
}
bool backend_takes_blocks(const struct backend *b, enum dtype t) {
    return b->takes_blocks && b->takes_blocks(t);
}

void *backend_alloc(struct backend *b, enum mem_category category, size_t bytes) {
    return b->ops->alloc(b, category, bytes);
}
void backend_release(struct backend *b, void *p) {
    b->ops->release(b, p);
}
void backend_upload(struct backend *b, void *dst, const void *host, size_t bytes) {
    b->ops->upload(b, dst, host, bytes);
}
void backend_download(struct backend *b, void *host, const void *src, size_t bytes) {
    b->ops->download(b, host, src, bytes);
}

struct stream *backend_stream(struct backend *b) {
    return b->stream;
}

void stream_fail(struct stream *s, enum mil_status status, const struct mil_error *err) {
    if (s->status != MIL_OK) return;
    s->status = status;
    s->err = *err;
}

enum mil_status stream_sync(struct stream *s, struct mil_error *err) {
    s->backend->ops->sync(s);
    enum mil_status status = s->status;
    s->status = MIL_OK;
    if (status != MIL_OK && err) *err = s->err;
    return status;
}
