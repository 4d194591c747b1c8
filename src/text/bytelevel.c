/* SPDX-License-Identifier: Apache-2.0 */
/* bytelevel.c - the alphabet in which byte-level vocabularies are written: the printable Latin-1
 * characters stand for themselves, the other 68 bytes, in rising order, for U+0100 and following
 * (GPT-2's choice, kept by every such file).  This program decodes it once while loading and works
 * on bytes from there on. */
#include "text/tokenizer_impl.h"

static bool stands_for_itself(unsigned c) {
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The byte of a character, or -1. */
static int byte_of(uint32_t c) {
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    uint32_t k = 0x100;
    for (unsigned b = 0; b < 0x100; b++)
        if (!stands_for_itself(b) && k++ == c) return (int)b;
    return -1;
}

bool bytelevel_unmap(const char *piece, size_t n, struct str *out) {
    size_t before = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t len = utf8_decode(piece + i, n - i, &c);
        int byte = len ? byte_of(c) : -1;
        if (byte < 0) {
            out->len = before;
            return false;
        }
        str_addc(out, (char)byte);
        i += len;
    }
    return true;
}
