/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the command's exit status says. The same errno means different things in different phases:
 * -ENOENT of a source is 3, of a mountpoint 5; so there is one function a phase. exitcode_report()
 * is where an error that travelled up becomes the one line on stderr.
 */
#ifndef TOOLS_EXITCODE_H
#define TOOLS_EXITCODE_H

#include "core/err.h"

enum exitcode {
	EXITCODE_OK = 0,
	EXITCODE_FAILED = 1,   /* the operation failed */
	EXITCODE_USAGE = 2,    /* the command line, or a file that an option names */
	EXITCODE_SOURCE = 3,   /* unreachable or refused: network, TLS, credentials, not found */
	EXITCODE_IMAGE = 4,    /* corrupt, unsupported or unsafe */
	EXITCODE_TARGET = 5,   /* the target or the mountpoint: missing, in use, not permitted */
	EXITCODE_MISMATCH = 6, /* verification failed */
};

/* @code: a negative errno, met while a source was opened or read. */
enum exitcode exitcode_of_source(int code);

/* @code: met while the filesystem was mounted or unmounted. */
enum exitcode exitcode_of_mountpoint(int code);
/* An overlay's file that cannot be used is a target; one that is damaged or of another image is an
 * image that is unsafe. */
enum exitcode exitcode_of_overlay(int code);

/* Prints the error @e as one line and returns @exitcode. */
int exitcode_report(const struct err *e, enum exitcode exitcode);

#endif
