/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4): values of Secrets, logins in headers and in files, inline blobs. */
#ifndef CORE_BASE64_H
#define CORE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Decodes @text (line ends and blanks are passed over); malloc()ed, with a NUL behind the *ret_len
 * bytes. NULL when it is not base64, or without memory. */
char *base64_decode(const char *text, size_t *ret_len);

/* The same for text: NULL also when it holds a NUL. */
char *base64_decode_text(const char *text);

/* malloc()ed; NULL without memory. */
char *base64_encode(const void *data, size_t len);

#endif
