/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as manifests: reading them, and all that is made of them, ends soon and within bounds,
 * and what is wrong is said in one line that names the file. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tools/manifest.h"
#include "tools/manifest_pv.h"
#include "tools/manifest_resolve.h"
#include "tools/manifest_spec.h"

#define FILE_NAME "fuzz.yaml"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_error(int r, const struct err *e)
{
	assert(r == -EINVAL || r == -ENOTSUP);
	assert(e->code == r);
	assert(strncmp(e->text, FILE_NAME ":", strlen(FILE_NAME ":")) == 0);
	assert(strchr(e->text, '\n') == NULL);
}

static void try_volume(
	const struct manifest *m, const struct manifest_object *volume, struct manifest_pvs *pvs)
{
	struct manifest_access access = { 0 };
	const struct manifest_pv *pv = NULL;
	struct manifest_spec spec;
	struct err e = { 0 };
	int r = manifest_spec_read(volume, &spec, &e);

	if (r == 0) {
		r = manifest_resolve(m, volume, &spec, &access, &e);
		manifest_access_clear(&access);
	}
	if (r == 0 && pvs) {
		r = manifest_pvs_reserve(pvs, volume, &spec.claim, &pv, &e);
	}
	if (r == 0 && pvs && !pv) {
		r = manifest_pvs_match(pvs, volume, &spec.claim, &pv, &e);
	}
	if (r < 0) {
		check_error(r, &e);
	}
}

static void try_object(
	const struct manifest *m, const struct manifest_object *object, struct manifest_pvs *pvs)
{
	struct manifest_claim claim;
	struct err e = { 0 };
	int r = 0;

	assert(object->name[0] && object->line > 0);
	assert(manifest_find(m, object->kind, object->ns, object->name) == object);
	if (object->kind == MANIFEST_DATA_VOLUME) {
		try_volume(m, object, pvs);
	} else if (object->kind == MANIFEST_PVC) {
		r = manifest_claim_read(object, &claim, &e);
	}
	if (r < 0) {
		check_error(r, &e);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct manifest m = { 0 };
	struct manifest_pvs pvs;
	struct err e = { 0 };
	bool has_pvs;
	int r;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	r = manifest_parse(FILE_NAME, (const char *)data, len, &m, &e);
	if (r < 0) {
		check_error(r, &e);
		return 0;
	}
	r = manifest_pvs_load(&m, &pvs, &e);
	has_pvs = r == 0;
	if (r < 0) {
		check_error(r, &e);
	}
	for (size_t i = 0; i < m.count; i++) {
		try_object(&m, &m.objects[i], has_pvs ? &pvs : NULL);
	}
	if (has_pvs) {
		manifest_pvs_clear(&pvs);
	}
	manifest_clear(&m);
	return 0;
}
