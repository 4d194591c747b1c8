/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - the CPU backend: opening and closing it, its memory, its table of operations. */
#include "backend/cpu.h"

#include <stdio.h>
#include <string.h>

#include "core/threads.h"

static void cpu_close(struct backend *base) {
    struct cpu_backend *b = (struct cpu_backend *)base;
    product_release(&b->product);
    mem_free(b->scratch);
    mem_free(b);
}

static const char *cpu_describe(const struct backend *base) {
    return ((const struct cpu_backend *)base)->text;
}

static void *cpu_alloc(struct backend *b, enum mem_category category, size_t bytes) {
    (void)b;
    return mem_alloc(category, bytes, 1);
}

static void cpu_release(struct backend *b, void *p) {
    (void)b;
    mem_free(p);
}

static void cpu_upload(struct backend *b, void *dst, const void *host, size_t bytes) {
    (void)b;
    if (bytes) memmove(dst, host, bytes);
}

static void cpu_sync(struct stream *s) {
    (void)s; /* nothing is ever pending */
}

void *cpu_scratch(struct stream *s, size_t bytes) {
    struct cpu_backend *b = cpu_of(s);
    if (bytes <= b->scratch_bytes) return b->scratch;
    mem_free(b->scratch);
    b->scratch = mem_alloc(MEM_SCRATCH, bytes, 1);
    b->scratch_bytes = b->scratch ? bytes : 0;
    if (!b->scratch) {
        struct mil_error err = {0};
        stream_fail(s, error_nomem(&err, bytes), &err);
    }
    return b->scratch;
}

static const struct backend_ops cpu_ops = {
    .close = cpu_close,
    .describe = cpu_describe,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_upload,
    .sync = cpu_sync,
    .zero = cpu_zero,
    .map = cpu_map,
    .add_row = cpu_add_row,
    .gather_rows = cpu_gather_rows,
    .scatter_rows = cpu_scatter_rows,
    .products = cpu_products,
    .rmsnorm_fwd = cpu_rmsnorm_fwd,
    .rmsnorm_bwd = cpu_rmsnorm_bwd,
    .rope = cpu_rope,
    .attention_fwd = cpu_attention_fwd,
    .attention_bwd = cpu_attention_bwd,
    .swiglu_fwd = cpu_swiglu_fwd,
    .swiglu_bwd = cpu_swiglu_bwd,
    .bias_grad = cpu_bias_grad,
    .scale_cols = cpu_scale_cols,
    .col_dots = cpu_col_dots,
    .factor_bwd = cpu_factor_bwd,
    .norm_factor = cpu_norm_factor,
    .cross_entropy = cpu_cross_entropy,
    .dropout_mask = cpu_dropout_mask,
    .dropout_apply = cpu_dropout_apply,
    .adamw = cpu_adamw,
    .importance = cpu_importance,
    .sum_squares = cpu_sum_squares,
};

/* Who multiplies the compute type. */
static const char *products(const struct cpu_backend *b) {
    if (b->base.act == DT_F64) return "OpenBLAS";
    return b->by_library ? product_library() : "own kernels";
}

static void describe(struct cpu_backend *b) {
    snprintf(b->text, sizeof b->text,
             "cpu: %s, found %s, using %s; %d thread%s; %s, products by %s", cpu_model_name(),
             isa_name(cpu_isa_found()), isa_name(b->kern.level), threads_count(),
             threads_count() == 1 ? "" : "s", dtype_name(b->base.act), products(b));
}

enum mil_status backend_cpu_open(enum dtype compute, struct backend **out, struct mil_error *err) {
    struct cpu_backend *b = mem_calloc(MEM_SCRATCH, 1, sizeof *b);
    if (!b) return error_nomem(err, sizeof *b);
    b->base = (struct backend){.ops = &cpu_ops,
                               .name = "cpu",
                               .act = compute,
                               .real = compute == DT_F64 ? DT_F64 : DT_F32,
                               .shares_host = true,
                               .stream = &b->stream};
    b->stream.backend = &b->base;
    kern_table_init(&b->kern, compute, cpu_isa_used());
    threads_count(); /* sets the size of the shared OpenMP team before the libraries look */
    enum mil_status st = product_init(&b->product, err);
    if (st != MIL_OK) {
        cpu_close(&b->base);
        return st;
    }
    b->by_library = compute == DT_BF16 && b->product.has_amx;
    if (compute != DT_F64 && !b->by_library) b->base.takes_blocks = kern_takes_blocks;
    describe(b);
    *out = &b->base;
    return MIL_OK;
}
