/* SPDX-License-Identifier: Apache-2.0 */
/* orthogonality.h - AdaLoRA's penalty on vectors that are not orthonormal, and its gradient (orthogonality.c). */
#ifndef MIL_ADAPT_ORTHOGONALITY_H
#define MIL_ADAPT_ORTHOGONALITY_H

#include "backend/backend.h"

/* r vectors of `length` numbers each, X = value + base (base may lack data): the columns of [length, r], or the rows of
 * [r, length].  All of one type, f32 or f64, without gaps, in memory that the host shares. */
struct orthogonality {
    struct tensor value, base, grad;
    bool rows;
    int64_t length, r;
};
/* Doubles of scratch that a call takes for so many vectors. */
size_t orthogonality_scratch(int64_t r);
/* Returns ||G - I||_F, G the Gram matrix of the vectors; adds `weight` times its gradient to grad.  At G = I,
 * where there is none, nothing is added. */
double orthogonality_add(const struct orthogonality *o, double weight, double *scratch);

#endif
