/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_types.c - the numbers that GGUF gives to value and tensor types.  Types that this program
 * does not compute with are listed by name only, so that a refusal can say what the file holds. */
#include "io/gguf_internal.h"

size_t gguf_type_bytes(uint32_t type) {
    static const unsigned char bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static const struct {
    uint32_t number;
    enum dtype dtype; /* DTYPES: not supported */
    const char *name;
} tensor_types[] = {
    {0, DT_F32, "F32"},     {1, DT_F16, "F16"},      {2, DT_Q4_0, "Q4_0"},
    {3, DT_Q4_1, "Q4_1"},   {6, DT_Q5_0, "Q5_0"},    {7, DT_Q5_1, "Q5_1"},
    {8, DT_Q8_0, "Q8_0"},   {9, DTYPES, "Q8_1"},     {10, DT_Q2_K, "Q2_K"},
    {11, DT_Q3_K, "Q3_K"},  {12, DT_Q4_K, "Q4_K"},   {13, DT_Q5_K, "Q5_K"},
    {14, DT_Q6_K, "Q6_K"},  {15, DTYPES, "Q8_K"},    {16, DTYPES, "IQ2_XXS"},
    {17, DTYPES, "IQ2_XS"}, {18, DTYPES, "IQ3_XXS"}, {19, DTYPES, "IQ1_S"},
    {20, DTYPES, "IQ4_NL"}, {21, DTYPES, "IQ3_S"},   {22, DTYPES, "IQ2_S"},
    {23, DTYPES, "IQ4_XS"}, {24, DT_I8, "I8"},       {25, DT_I16, "I16"},
    {26, DT_I32, "I32"},    {27, DT_I64, "I64"},     {28, DT_F64, "F64"},
    {29, DTYPES, "IQ1_M"},  {30, DT_BF16, "BF16"},   {34, DTYPES, "TQ1_0"},
    {35, DTYPES, "TQ2_0"},  {39, DTYPES, "MXFP4"},
};

bool gguf_dtype(uint32_t number, enum dtype *out, const char **name) {
    *name = NULL;
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++) {
        if (tensor_types[i].number != number) continue;
        *name = tensor_types[i].name;
        *out = tensor_types[i].dtype;
        return *out != DTYPES;
    }
    return false;
}

uint32_t gguf_dtype_number(enum dtype t) {
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++)
        if (tensor_types[i].dtype == t) return tensor_types[i].number;
    REQUIRE(!"a dtype that GGUF has no number for");
    return 0;
}
