/* SPDX-License-Identifier: Apache-2.0 */
/* `lazydisk umount`. */
#include "fusefs/fusefs.h"
#include "tools/exitcode.h"
#include "tools/options.h"
#include "tools/verb.h"

int umount_run(const struct options *o)
{
	struct err e;
	int r = fusefs_unmount(o->args[0], &e);

	return r < 0 ? exitcode_report(&e, exitcode_of_mountpoint(r)) : EXITCODE_OK;
}
