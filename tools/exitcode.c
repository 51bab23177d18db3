/* SPDX-License-Identifier: Apache-2.0 */
/* From errors to exit statuses. */
#include "tools/exitcode.h"

#include <errno.h>

#include "core/log.h"

enum exitcode exitcode_of_source(int code)
{
	switch (-code) {
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case EACCES:
	case EPERM:
	case EKEYREJECTED:
	case ENXIO:
	case ETIMEDOUT:
	case ECONNRESET:
	case EPROTO:
		return EXITCODE_SOURCE;
	case EBADMSG:
	case ENOTSUP:
		return EXITCODE_IMAGE;
	case ENOKEY:
		return EXITCODE_MISMATCH;
	case EINVAL:
		return EXITCODE_USAGE;
	default:
		return EXITCODE_FAILED;
	}
}

enum exitcode exitcode_of_mountpoint(int code)
{
	return code == -ENOMEM ? EXITCODE_FAILED : EXITCODE_TARGET;
}

enum exitcode exitcode_of_overlay(int code)
{
	switch (-code) {
	case EBADMSG:
	case ENOTSUP:
	case ESTALE:
		return EXITCODE_IMAGE;
	case ENOMEM:
		return EXITCODE_FAILED;
	default:
		return EXITCODE_TARGET;
	}
}

int exitcode_report(const struct err *e, enum exitcode exitcode)
{
	log_error("%s", e->text);
	return (int)exitcode;
}
