/* SPDX-License-Identifier: Apache-2.0 */
/* bytelevel.c - the alphabet in which byte-level vocabularies are written: the printable Latin-1
 * characters stand for themselves, the other 68 bytes, in rising order, for U+0100 and following
 * (GPT-2's choice, kept by every such file).  This program decodes it once while loading and works
 * on bytes from there on. */
#include "text/tokenizer_impl.h"

static bool stands_for_itself(unsigned c) {
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The byte of a character, or -1.  The 68 others are 0-0x20, 0x7f-0xa0 and 0xad. */
static int byte_of(uint32_t c) {
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    uint32_t k = c - 0x100;
    if (k < 0x21) return (int)k;
    if (k < 0x21 + 0x22) return (int)(0x7f + k - 0x21);
    return k == 0x21 + 0x22 ? 0xad : -1;
}

bool bytelevel_unmap(const char *piece, size_t n, struct str *out) {
    size_t before = out->len, used = 0;
    char bytes[256];
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t len = utf8_decode(piece + i, n - i, &c);
        int byte = len ? byte_of(c) : -1;
        if (byte < 0) {
            out->len = before;
            if (out->data) out->data[before] = 0;
            return false;
        }
        bytes[used++] = (char)byte;
        i += len;
        if (used < sizeof bytes) continue;
        str_addn(out, bytes, used);
        used = 0;
    }
    str_addn(out, bytes, used);
    return true;
}
