/* SPDX-License-Identifier: Apache-2.0 */
/* product.c - see product.h.
 *
 * Row-major matrices with any leading dimension, transposed or not, are memory descriptors with
 * strides: nothing is packed or copied by us, so a mapped weight W [out, in] serves x W^T and dy W
 * as it lies.  alpha is an output scale, beta a sum post-operation. */
#include "backend/product.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

#include "core/cpu.h"

enum { PRODUCT_SLOTS = 512, PRODUCT_LIMIT = 256 };

/* What makes two products the same; compared as bytes, hence no padding. */
struct product_key {
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    uint32_t flags, types; /* types: A and B's, and C's << 8 */
};

struct product_entry {
    struct product_key key;
    dnnl_primitive_t primitive; /* NULL: free slot */
    dnnl_memory_t a, b, c;
};

/* One place turns a refused call into our error: what was called, oneDNN's code. */
#define DNNL_TRY(call, err)                                                                        \
    do {                                                                                           \
        dnnl_status_t dnnl_status_ = (call);                                                       \
        if (dnnl_status_ != dnnl_success) {                                                        \
            st = error_set(err, dnnl_status_ == dnnl_out_of_memory ? MIL_NOMEM : MIL_DEVICE,       \
                           "oneDNN: %s: %s", #call, status_text(dnnl_status_));                    \
            goto fail;                                                                             \
        }                                                                                          \
    } while (0)

static const char *status_text(dnnl_status_t status) {
    switch (status) {
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "no implementation for this shape";
    case dnnl_runtime_error: return "run-time error";
    default: return "failed";
    }
}

const char *product_library(void) {
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* Cap the library at our level. It accepts this only before its first use in the process: a level
 * lowered later (by a test) keeps the library's earlier cap, and only our own choice of what to
 * give the library follows it. */
static void cap_isa(enum isa level) {
    switch (level) {
    case ISA_REF: dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41); break;
    case ISA_AVX2: dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2); break;
    case ISA_AVX512: dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core); break;
    case ISA_AVX512_BF16: dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16); break;
    default: break;
    }
}

enum mil_status product_init(struct product *p, struct mil_error *err) {
    enum mil_status st = MIL_OK;
    memset(p, 0, sizeof *p);
    cap_isa(cpu_isa_used());
    dnnl_set_primitive_cache_capacity(0); /* or it would keep what we have forgotten */
    unsigned effective = (unsigned)dnnl_get_effective_cpu_isa();
    unsigned pairs = dnnl_cpu_isa_avx512_core_bf16, amx = dnnl_cpu_isa_avx512_core_amx;
    p->has_bf16 = cpu_isa_used() >= ISA_AVX512_BF16 && (effective & pairs) == pairs;
    p->has_amx = cpu_isa_used() >= ISA_AMX && (effective & amx) == amx;
    DNNL_TRY(dnnl_engine_create(&p->engine, dnnl_cpu, 0), err);
    DNNL_TRY(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags), err);
    p->entries = mem_calloc(MEM_SCRATCH, PRODUCT_SLOTS, sizeof *p->entries);
    if (p->entries) return MIL_OK;
    st = error_nomem(err, PRODUCT_SLOTS * sizeof *p->entries);
fail:
    product_release(p);
    return st;
}

static void entry_release(struct product_entry *e) {
    if (e->a) dnnl_memory_destroy(e->a);
    if (e->b) dnnl_memory_destroy(e->b);
    if (e->c) dnnl_memory_destroy(e->c);
    if (e->primitive) dnnl_primitive_destroy(e->primitive);
    memset(e, 0, sizeof *e);
}

static void forget_all(struct product *p) {
    for (size_t i = 0; p->entries && i < PRODUCT_SLOTS; i++) entry_release(&p->entries[i]);
    p->n_entries = 0;
}

void product_release(struct product *p) {
    forget_all(p);
    mem_free(p->entries);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    memset(p, 0, sizeof *p);
}

/* FNV-1a over the key's words. */
static size_t key_hash(const struct product_key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return (size_t)(h ^ (h >> 32)) % PRODUCT_SLOTS;
}

/* The key's entry, or the free slot where it belongs. */
static struct product_entry *entry_find(struct product *p, const struct product_key *key) {
    size_t i = key_hash(key);
    while (p->entries[i].primitive && memcmp(&p->entries[i].key, key, sizeof *key) != 0)
        i = (i + 1) % PRODUCT_SLOTS;
    return &p->entries[i];
}

static dnnl_status_t describe(dnnl_memory_desc_t *d, int64_t rows, int64_t cols, int64_t ld,
                              bool transposed, uint32_t type) {
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type == DT_BF16 ? dnnl_bf16 : dnnl_f32,
                                            strides);
}

static enum mil_status attributes(const struct product_key *key, dnnl_primitive_attr_t *attr,
                                  struct mil_error *err) {
    enum mil_status st = MIL_OK;
    dnnl_post_ops_t ops = NULL;
    DNNL_TRY(dnnl_primitive_attr_create(attr), err);
    if (key->alpha != 1.0f)
        DNNL_TRY(dnnl_primitive_attr_set_output_scales(*attr, 1, 0, &key->alpha), err);
    if (key->beta != 0.0f) {
        DNNL_TRY(dnnl_post_ops_create(&ops), err);
        DNNL_TRY(dnnl_post_ops_append_sum(ops, key->beta), err);
        DNNL_TRY(dnnl_primitive_attr_set_post_ops(*attr, ops), err);
    }
fail:
    if (ops) dnnl_post_ops_destroy(ops);
    return st;
}

/* Prepare the product of e->key. */
static enum mil_status entry_build(struct product *p, struct product_entry *e,
                                   struct mil_error *err) {
    enum mil_status st = MIL_OK;
    const struct product_key *key = &e->key;
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t prepared = NULL;
    uint32_t in = key->types & 0xff, out = key->types >> 8;
    DNNL_TRY(describe(&a, key->m, key->k, key->lda, key->flags & MATMUL_TRANS_A, in), err);
    DNNL_TRY(describe(&b, key->k, key->n, key->ldb, key->flags & MATMUL_TRANS_B, in), err);
    DNNL_TRY(describe(&c, key->m, key->n, key->ldc, false, out), err);
    TRY_GOTO(attributes(key, &attr, err));
    DNNL_TRY(dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c), err);
    DNNL_TRY(dnnl_primitive_desc_create(&prepared, &desc, attr, p->engine, NULL), err);
    DNNL_TRY(dnnl_primitive_create(&e->primitive, prepared), err);
    DNNL_TRY(dnnl_memory_create(&e->a, &a, p->engine, DNNL_MEMORY_NONE), err);
    DNNL_TRY(dnnl_memory_create(&e->b, &b, p->engine, DNNL_MEMORY_NONE), err);
    DNNL_TRY(dnnl_memory_create(&e->c, &c, p->engine, DNNL_MEMORY_NONE), err);
fail:
    if (prepared) dnnl_primitive_desc_destroy(prepared);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

static struct product_key key_of(unsigned flags, double alpha, struct tensor a, struct tensor b,
                                 double beta, struct tensor c) {
    struct product_key key;
    memset(&key, 0, sizeof key);
    key.m = c.rows;
    key.n = c.cols;
    key.k = flags & MATMUL_TRANS_A ? a.rows : a.cols;
    /* The leading dimension of a single row means nothing; make it canonical. */
    key.lda = a.rows > 1 ? a.ld : a.cols;
    key.ldb = b.rows > 1 ? b.ld : b.cols;
    key.ldc = c.rows > 1 ? c.ld : c.cols;
    key.alpha = (float)alpha;
    key.beta = (float)beta;
    key.flags = flags;
    key.types = (uint32_t)a.dtype | (uint32_t)c.dtype << 8;
    return key;
}

enum mil_status product_run(struct product *p, unsigned flags, double alpha, struct tensor a,
                            struct tensor b, double beta, struct tensor c, struct mil_error *err) {
    enum mil_status st = MIL_OK;
    struct product_key key = key_of(flags, alpha, a, b, beta, c);
    struct product_entry *e = entry_find(p, &key);
    if (!e->primitive) {
        if (p->n_entries >= PRODUCT_LIMIT) {
            forget_all(p);
            e = entry_find(p, &key);
        }
        e->key = key;
        st = entry_build(p, e, err);
        if (st != MIL_OK) {
            entry_release(e);
            return st;
        }
        p->n_entries++;
    }
    DNNL_TRY(dnnl_memory_set_data_handle(e->a, a.data), err);
    DNNL_TRY(dnnl_memory_set_data_handle(e->b, b.data), err);
    DNNL_TRY(dnnl_memory_set_data_handle(e->c, c.data), err);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, e->a}, {DNNL_ARG_WEIGHTS, e->b}, {DNNL_ARG_DST, e->c}};
    DNNL_TRY(dnnl_primitive_execute(e->primitive, p->stream, 3, args), err);
    DNNL_TRY(dnnl_stream_wait(p->stream), err);
fail:
    return st;
}
