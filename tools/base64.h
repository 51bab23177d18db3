/* SPDX-License-Identifier: Apache-2.0 */
/* Values of Secrets and of ConfigMaps' binaryData. */
#ifndef TOOLS_BASE64_H
#define TOOLS_BASE64_H

/* Decodes @text (RFC 4648, section 4; line ends and blanks are passed over) to text; malloc()ed.
 * NULL when it is not base64, holds a NUL, or without memory. */
char *base64_decode_text(const char *text);

#endif
