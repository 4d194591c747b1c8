/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_blocks.c - rows of a matrix in GGUF's blocks: each element is rounded to act, as a product reads it, and then
 * converted.  An embedding's rows: there are few of them. */
#include "backend/cpu.h"
#include "core/threads.h"
#include "kern/dequant.h"

struct blocks_call {
    const struct kern *kern;
    struct tensor dst, src;
    const int32_t *index;
};

static void gather_row(const struct blocks_call *c, int64_t to, int64_t from) {
    enum { PIECE = 256 }; /* a multiple of every block */
    float wide[PIECE], rounded[PIECE];
    enum dtype t = c->src.dtype;
    size_t elems = dtype_block_elems(t), bytes = dtype_block_bytes(t);
    const unsigned char *p = c->src.data;
    p += (size_t)from * ((size_t)c->src.cols / elems * bytes);
    for (int64_t col = 0; col < c->src.cols; col += PIECE) {
        int64_t n = c->src.cols - col < PIECE ? c->src.cols - col : PIECE;
        dequant_to_f32(t, p, n, wide);
        quant_from_f32(c->kern->act, wide, n, rounded);
        struct kern_map a = {.y = tensor_at(c->dst, to, col),
                             .x = rounded,
                             .y_type = c->dst.dtype,
                             .x_type = c->kern->act,
                             .scale = 1.0};
        c->kern->map(&a, 0, n);
        p += (size_t)n / elems * bytes;
    }
}

static void gather_rows(void *ctx, int64_t begin, int64_t end) {
    const struct blocks_call *c = ctx;
    for (int64_t i = begin; i < end; i++) gather_row(c, i, c->index[i]);
}

void cpu_gather_blocks(struct stream *s, struct tensor dst, struct tensor src,
                       const int32_t *index) {
    enum { GRAIN = 16384 };
    struct blocks_call c = {&cpu_of(s)->kern, dst, src, index};
    parallel_for(dst.rows, dst.cols < GRAIN ? GRAIN / dst.cols : 1, gather_rows, &c);
}
