/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: the documentation's own, and those that say something wrong. */
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/log.h"
#include "tools/manifest.h"
#include "tools/manifest_pv.h"
#include "tools/manifest_resolve.h"
#include "tools/manifest_spec.h"

static void load(const char *name, struct manifest *ret)
{
	char path[512];
	char *const paths[] = { path };
	struct err e = { 0 };

	snprintf(path, sizeof(path), TEST_DATA "/manifests/%s", name);
	if (manifest_load(paths, 1, ret, &e) < 0) {
		fail_msg("%s", e.text);
	}
	/* paths are borrowed; this one ends with the function */
	for (size_t i = 0; i < ret->count; i++) {
		ret->objects[i].file = name;
	}
}

static struct manifest parse(const char *text)
{
	struct manifest m = { 0 };
	struct err e = { 0 };

	if (manifest_parse("f.yaml", text, strlen(text), &m, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return m;
}

static struct manifest_spec spec_of(const struct manifest *m, const char *name)
{
	const struct manifest_object *o = manifest_find(m, MANIFEST_DATA_VOLUME, "default", name);
	struct manifest_spec spec = { 0 };
	struct err e = { 0 };

	assert_non_null(o);
	if (manifest_spec_read(o, &spec, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return spec;
}

#define FEDORA "https://mirror.example.org/fedora/Fedora-Cloud-Base-35-1.2.x86_64.qcow2"

static void the_machine_of_the_documentation_is_understood(void **state)
{
	static const char *const files[] = { "vm-fedora-datavolume.yaml",
		"vm-references-beside-http.yaml", "vm-references-beside-source.yaml" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct manifest m;
		struct manifest_spec s;

		load(files[i], &m);
		assert_int_equal(m.count, 1);
		s = spec_of(&m, "fedora-dv");
		assert_int_equal(s.source, MANIFEST_SOURCE_HTTP);
		assert_string_equal(s.url, FEDORA);
		assert_string_equal(yamltree_text(s.secret_ref), "endpoint-secret");
		assert_string_equal(yamltree_text(s.cert_config_map), "");
		assert_int_equal(s.claim.size, GIB(10));
		assert_false(s.claim.block);
		assert_string_equal(s.claim.storage_class, "local");
		assert_int_equal(s.preallocation, MANIFEST_UNSET);
		manifest_clear(&m);
	}
}

static void the_block_volume_of_the_documentation_is_understood(void **state)
{
	struct manifest_spec s;
	struct manifest_pv pv;
	struct manifest m;

	(void)state;
	load("import-pv-datavolume.yaml", &m);
	s = spec_of(&m, "import-pv-datavolume");
	assert_string_equal(s.url, FEDORA);
	assert_true(s.claim.block);
	assert_int_equal(s.claim.size, GIB(10));
	assert_string_equal(s.claim.storage_class, "local");
	manifest_clear(&m);

	load("local-block-pv10.yaml", &m);
	assert_int_equal(manifest_pv_read(&m.objects[0], &pv, NULL), 0);
	assert_string_equal(pv.object->name, "local-block-pv10");
	assert_string_equal(pv.path, "/dev/loop10");
	assert_int_equal(pv.capacity, GIB(2));
	assert_true(pv.block);
	assert_string_equal(pv.storage_class, "local");
	assert_null(pv.claim_name);
	manifest_clear(&m);
}

#define DV(name, source, storage)                                                                  \
	"kind: DataVolume\nmetadata: {name: " name "}\nspec:\n  source: " source                   \
	"\n  storage: " storage "\n---\n"
#define SIZE(n)    "{resources: {requests: {storage: " n "}}}"
#define HTTP(more) "{http: {url: 'https://h/i'" more "}}"

static void access_of(const char *text, struct manifest_access *ret)
{
	struct manifest m = parse(text);
	struct manifest_spec s = spec_of(&m, "a");
	struct err e = { 0 };

	if (manifest_resolve(
		    &m, manifest_find(&m, MANIFEST_DATA_VOLUME, "default", "a"), &s, ret, &e) < 0) {
		fail_msg("%s", e.text);
	}
	manifest_clear(&m);
}

static void references_become_what_they_name(void **state)
{
	struct manifest_access a;

	(void)state;
	access_of(DV("a",
			  HTTP(", secretRef: s, certConfigMap: c, extraHeaders: ['X-A: 1'], "
			       "secretExtraHeaders: [h]"),
			  SIZE("1Gi")) "kind: Secret\nmetadata: {name: s}\ndata: {accessKeyId: "
				       "YW5uYQo=, secretKey: Z2VoZWlt}\n---\n"
				       "kind: Secret\nmetadata: {name: h}\nstringData: {k: 'X-B: "
				       "2'}\ndata: {k: ISE=, l: WC1DOiAz}\n---\n"
				       "kind: ConfigMap\nmetadata: {name: c}\ndata:\n"
				       "  readme: no certificate\n"
				       "  any.key: |\n    -----BEGIN CERTIFICATE-----\n    x\n",
		&a);
	assert_string_equal(a.login.user, "anna");
	assert_string_equal(a.login.password, "geheim");
	assert_string_equal(a.headers[0], "X-A: 1");
	assert_string_equal(a.headers[1], "X-B: 2");
	assert_string_equal(a.headers[2], "X-C: 3");
	assert_null(a.headers[3]);
	assert_string_equal(a.ca, "-----BEGIN CERTIFICATE-----\nx\n\n");
	manifest_access_clear(&a);
}

static void empty_references_and_empty_secrets_are_none(void **state)
{
	struct manifest_access a;

	(void)state;
	access_of(DV("a", HTTP(", secretRef: '', certConfigMap: ''"), SIZE("1Gi")), &a);
	assert_null(a.login.user);
	assert_null(a.ca);
	assert_null(a.headers);
	access_of(DV("a", HTTP(", secretRef: s"),
			  SIZE("1Gi")) "kind: Secret\nmetadata: {name: s}\n"
				       "data: {accessKeyId: '', secretKey: ''}",
		&a);
	assert_null(a.login.user);
	assert_null(a.login.password);
	manifest_access_clear(&a);
}

static void lists_and_namespaces_are_followed(void **state)
{
	struct manifest m = parse(
		"kind: List\nitems:\n- kind: SecretList\n  items:\n  - {kind: Secret, metadata: "
		"{name: s, namespace: prod}}\n- {kind: Deployment, spec: [1, 2]}\n"
		"- {kind: Secret, metadata: {name: s, namespace: ''}}\n"
		"- {kind: DataVolume, apiVersion: other.io/v1}\n---\n"
		"kind: VirtualMachine\napiVersion: kubevirt.io/v1alpha3\n"
		"metadata: {name: vm, namespace: prod}\n"
		"spec: {dataVolumeTemplates: [{metadata: {name: d}}]}\n");

	(void)state;
	assert_int_equal(m.count, 3);
	assert_int_equal(manifest_find(&m, MANIFEST_SECRET, "prod", "s")->line, 5);
	assert_non_null(manifest_find(&m, MANIFEST_SECRET, "default", "s"));
	assert_int_equal(manifest_find(&m, MANIFEST_DATA_VOLUME, "prod", "d")->line, 13);
	assert_null(manifest_find(&m, MANIFEST_SECRET, "other", "s"));
	manifest_clear(&m);
}

static void every_form_of_a_volume_is_read(void **state)
{
	struct manifest m = parse(
		"kind: DataVolume\napiVersion: cdi.kubevirt.io/v1alpha1\nmetadata: {name: a}\n"
		"spec:\n  preallocation: true\n  contentType: kubevirt\n  unknown: [x]\n"
		"  source: {blank: {}}\n"
		"  pvc: {volumeMode: Filesystem, storageClassName: fast, volumeName: pv1, "
		"accessModes: [ReadWriteOnce], resources: {requests: {storage: 1.5Gi}}}\n---\n" DV(
			"b", "{pvc: {name: src, namespace: golden}}", "{}") DV("c",
			"{pvc: {name: src}}", "{}") DV("e",
			"{registry: {url: 'docker://h/i', pullMethod: node, "
			"secretRef: s, platform: {architecture: arm64}}}",
			SIZE("1Gi")) DV("d",
			HTTP(", checksum: 'sha256:0', insecureSkipVerify: true"), SIZE("500M")));
	struct manifest_spec s = spec_of(&m, "a");

	(void)state;
	assert_int_equal(s.source, MANIFEST_SOURCE_BLANK);
	assert_int_equal(s.claim.size, MIB(1536));
	assert_int_equal(s.preallocation, MANIFEST_YES);
	assert_string_equal(s.claim.volume_name, "pv1");
	s = spec_of(&m, "b");
	assert_int_equal(s.source, MANIFEST_SOURCE_PVC);
	assert_string_equal(s.clone_ns, "golden");
	assert_string_equal(s.clone_name, "src");
	assert_int_equal(s.claim.size, 0);
	s = spec_of(&m, "c");
	assert_string_equal(s.clone_ns, "default");
	s = spec_of(&m, "e");
	assert_int_equal(s.source, MANIFEST_SOURCE_REGISTRY);
	assert_string_equal(s.url, "docker://h/i");
	assert_string_equal(s.architecture, "arm64");
	assert_non_null(s.secret_ref);
	s = spec_of(&m, "d");
	assert_string_equal(s.checksum, "sha256:0");
	assert_true(s.insecure);
	assert_int_equal(s.claim.size, 500000000);
	manifest_clear(&m);
}

/* Where whatever is wrong is found: when the file, the volume, its references or its place are. */
static int try_all(const char *text, struct err *e)
{
	struct manifest m = { 0 };
	struct manifest_access access = { 0 };
	struct manifest_pvs pvs = { 0 };
	int r = manifest_parse("f.yaml", text, strlen(text), &m, e);

	if (r == 0) {
		r = manifest_pvs_load(&m, &pvs, e);
	}
	for (size_t i = 0; r == 0 && i < m.count; i++) {
		const struct manifest_pv *pv = NULL;
		struct manifest_spec s;

		if (m.objects[i].kind != MANIFEST_DATA_VOLUME) {
			continue;
		}
		r = manifest_spec_read(&m.objects[i], &s, e);
		if (r == 0) {
			r = manifest_resolve(&m, &m.objects[i], &s, &access, e);
			manifest_access_clear(&access);
		}
		if (r == 0 && s.claim.block) {
			r = manifest_pvs_reserve(&pvs, &m.objects[i], &s.claim, &pv, e);
		}
		if (r == 0 && s.claim.block && !pv) {
			r = manifest_pvs_match(&pvs, &m.objects[i], &s.claim, &pv, e);
		}
	}
	manifest_pvs_clear(&pvs);
	manifest_clear(&m);
	return r;
}

#define PV(name, more) "kind: PersistentVolume\nmetadata: {name: " name "}\nspec: {" more "}\n---\n"
#define BLOCK_PV(name, size)                                                                       \
	PV(name, "local: {path: /dev/" name "}, capacity: {storage: " size "}, volumeMode: Block")
#define BLOCK(size, more) "{volumeMode: Block" more ", resources: {requests: {storage: " size "}}}"

static const struct {
	const char *text;
	int code;
	const char *says;
} wrong[] = {
	{ "a: b\n", -EINVAL, "f.yaml:1: not a manifest: no kind" },
	{ "kind: Secret\nmetadata: {}\n", -EINVAL, "f.yaml:2: metadata.name: is missing" },
	{ "kind: Secret\nmetadata: {name: ../x}\n", -EINVAL,
		"f.yaml:2: metadata.name: '../x' is not a name" },
	{ "kind: Secret\nmetadata:\n  name: x\n  namespace: a.b\n", -EINVAL,
		"f.yaml:4: metadata.namespace: 'a.b' is not a name" },
	{ "kind: PersistentVolume\nmetadata:\n  name: <local-block-pv10>\n", -EINVAL,
		"f.yaml:3: metadata.name: '<local-block-pv10>' is a placeholder" },
	{ "kind: Secret\nmetadata: {name: x}\n---\nkind: Secret\nmetadata: {name: x}\n", -EINVAL,
		"f.yaml:4: metadata.name: there is another x at f.yaml:1" },
	{ "kind: VirtualMachine\nmetadata: {name: x}\nspec: {dataVolumeTemplates: {}}\n", -EINVAL,
		"f.yaml:3: spec.dataVolumeTemplates: is not a list" },
	{ "kind: DataVolume\nmetadata: {name: a}\n", -EINVAL, "f.yaml:1: spec: is missing" },
	{ DV("a", "{}", SIZE("1Gi")), -EINVAL, "f.yaml:4: spec.source: names no source" },
	{ DV("a", "{http: {url: 'http://h/'}, blank: {}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source: has both http and blank" },
	{ DV("a", "{registry: {url: 'https://x'}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.registry.url: does not begin with docker:// or oci-archive:" },
	{ DV("a", "{registry: {imageStream: x}}", SIZE("1Gi")), -ENOTSUP,
		"f.yaml:4: spec.source.registry.imageStream: is known to a cluster only" },
	{ DV("a", "{s3: {url: 'http://x'}}", SIZE("1Gi")), -ENOTSUP,
		"f.yaml:4: spec.source: s3 sources are not supported by this version" },
	{ "kind: DataVolume\nmetadata: {name: a}\nspec:\n  sourceRef: {kind: DataSource}\n",
		-ENOTSUP, "f.yaml:4: spec.sourceRef: is known to a cluster only" },
	{ DV("a", "{http: {}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.url: is missing" },
	{ DV("a", "{http: {url: [x]}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.url: is not text" },
	{ DV("a", "{http: {url: /etc/shadow}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.url: does not begin with http:// or https://" },
	{ DV("a", "{http: {url: 'file:///etc/shadow'}}", SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.url: does not begin" },
	{ DV("a", HTTP(", secretRef: [s]"), SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.secretRef: is not a name" },
	{ DV("a", HTTP(", secretRef: s"), SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.secretRef: there is no Secret s in namespace default" },
	{ DV("a", HTTP(", secretRef: s"),
		  SIZE("1Gi")) "kind: Secret\nmetadata: {name: s, namespace: other}\n",
		-EINVAL, "f.yaml:4: spec.source.http.secretRef: there is no Secret s" },
	{ DV("a", HTTP(", secretRef: s"), SIZE("1Gi")) "kind: Secret\nmetadata: {name: s}\n",
		-EINVAL, "f.yaml:7: Secret s: has neither accessKeyId and secretKey" },
	{ DV("a", HTTP(", secretRef: s"), SIZE("1Gi")) "kind: Secret\nmetadata: {name: s}\n"
						       "data: {accessKeyId: 'geheim!'}\n",
		-EINVAL, "f.yaml:7: Secret s: the value of accessKeyId is not base64 text" },
	{ DV("a", HTTP(", certConfigMap: c"), SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.certConfigMap: there is no ConfigMap c" },
	{ DV("a", HTTP(", certConfigMap: c"),
		  SIZE("1Gi")) "kind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n",
		-EINVAL, "f.yaml:7: data: ConfigMap c holds no PEM certificate" },
	{ DV("a", HTTP(", extraHeaders: ['X-A: 1', geheim]"), SIZE("1Gi")), -EINVAL,
		"f.yaml:4: spec.source.http.extraHeaders: not a header" },
	{ DV("a", HTTP(", secretExtraHeaders: [h]"),
		  SIZE("1Gi")) "kind: Secret\nmetadata: {name: h}\nstringData: {k: geheim}\n",
		-EINVAL, "f.yaml:9: k: the value is not a header" },
	{ DV("a", HTTP(""), "{}"), -EINVAL,
		"f.yaml:5: spec.storage.resources.requests.storage: is missing" },
	{ DV("a", HTTP(""), SIZE("10GB")), -EINVAL,
		"f.yaml:5: spec.storage.resources.requests.storage: '10GB' is not a quantity" },
	{ DV("a", HTTP(""), SIZE("1Ki")), -EINVAL,
		"f.yaml:5: spec.storage.resources.requests.storage: is less than 1Mi" },
	{ DV("a", HTTP(""), "{volumeMode: block}"), -EINVAL,
		"f.yaml:5: spec.storage.volumeMode: is neither Block nor Filesystem" },
	{ "kind: DataVolume\nmetadata: {name: a}\nspec:\n  source: {blank: {}}\n", -EINVAL,
		"f.yaml:4: spec.storage: is missing" },
	{ "kind: DataVolume\nmetadata: {name: a}\nspec:\n  source: {blank: {}}\n  pvc: {}\n"
	  "  storage: {}\n",
		-EINVAL, "f.yaml:5: spec.pvc: stands beside spec.storage" },
	{ DV("a", "{blank: {}}", SIZE("1Gi") "\n  preallocation: 'true'"), -EINVAL,
		"f.yaml:6: spec.preallocation: is neither true nor false" },
	{ DV("a", HTTP(""), SIZE("1Gi") "\n  contentType: archive"), -ENOTSUP,
		"f.yaml:6: spec.contentType: only kubevirt" },
	{ DV("a", "{pvc: {name: x, namespace: ../..}}", "{}"), -EINVAL,
		"f.yaml:4: spec.source.pvc.namespace: is not a name" },
	{ DV("a", HTTP(""), BLOCK("1Gi", "")), -EINVAL,
		"f.yaml:5: no PersistentVolume of volumeMode Block is free among the manifests" },
	{ DV("a", HTTP(""), BLOCK("10Gi", "")) BLOCK_PV("loop10", "2Gi"), -EINVAL,
		"f.yaml:5: no PersistentVolume is large enough: 10Gi are asked for, the largest "
		"that is free is loop10 with 2Gi" },
	{ DV("a", HTTP(""), BLOCK("1Gi", ", storageClassName: x")) BLOCK_PV("loop10", "2Gi"),
		-EINVAL,
		"f.yaml:5: no PersistentVolume of volumeMode Block and storageClassName x is" },
	{ DV("a", HTTP(""), BLOCK("1Gi", ", volumeName: x")) BLOCK_PV("loop10", "2Gi"), -EINVAL,
		"f.yaml:5: volumeName: there is no PersistentVolume x" },
	{ DV("a", HTTP(""), BLOCK("3Gi", ", volumeName: loop10")) BLOCK_PV("loop10", "2Gi"),
		-EINVAL, "f.yaml:5: PersistentVolume loop10 (f.yaml:7, 2Gi) is too small" },
	{ DV("a", HTTP(""), BLOCK("1Gi", "")) DV("b", HTTP(""), BLOCK("1Gi", ""))
			BLOCK_PV("loop10", "2Gi"),
		-EINVAL, "f.yaml:11: no PersistentVolume of volumeMode Block is free" },
	{ PV("x", "capacity: {storage: 1Gi}, local: {path: dev/loop1}"), -EINVAL,
		"f.yaml:3: spec.local.path: is not an absolute path" },
	{ PV("x", "capacity: {storage: <2Gi>}, local: {path: /dev/loop1}"), -EINVAL,
		"f.yaml:3: spec.capacity.storage: '<2Gi>' is not a quantity" },
	{ PV("x", "local: {path: </dev/loop10>}"), -EINVAL,
		"f.yaml:3: spec.local.path: is a placeholder" },
	{ PV("x", "local: {path: /dev/loop1}"), -EINVAL,
		"f.yaml:3: spec.capacity.storage: is missing" },
};

static void errors_name_file_line_and_field(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct err e = { 0 };
		int r = try_all(wrong[i].text, &e);

		if (r != wrong[i].code ||
			strncmp(e.text, wrong[i].says, strlen(wrong[i].says)) != 0 ||
			strstr(e.text, "geheim") || strchr(e.text, '\n')) {
			fail_msg("row %zu: %d '%s', not '%s'", i, r, e.text, wrong[i].says);
		}
	}
}

static const char *path_for(
	struct manifest_pvs *pvs, const struct manifest *m, const char *name, bool reserve)
{
	struct manifest_spec s = spec_of(m, name);
	const struct manifest_object *o = manifest_find(m, MANIFEST_DATA_VOLUME, "default", name);
	const struct manifest_pv *pv = NULL;
	struct err e = { 0 };

	if ((reserve ? manifest_pvs_reserve : manifest_pvs_match)(pvs, o, &s.claim, &pv, &e) < 0) {
		fail_msg("%s", e.text);
	}
	return pv ? pv->path : "none";
}

static void the_smallest_that_fits_serves_and_each_serves_once(void **state)
{
	struct manifest m = parse(DV("a", HTTP(""), BLOCK("1Gi", "")) DV("b", HTTP(""),
		BLOCK("1Gi", ", volumeName: two")) DV("c", HTTP(""), BLOCK("1Gi", ""))
			DV("d", HTTP(""), BLOCK("1Gi", "")) BLOCK_PV("nine", "9Gi") BLOCK_PV(
				"two", "2Gi") BLOCK_PV("three", "3Gi") BLOCK_PV("half", "512Mi")
				PV("file", "local: {path: /srv}, capacity: {storage: 1Gi}")
					PV("own", "local: {path: /dev/own}, volumeMode: Block,"
						  " capacity: {storage: 1Gi}, claimRef: {name: "
						  "d, namespace: default}"));
	struct manifest_pvs pvs;

	(void)state;
	assert_int_equal(manifest_pvs_load(&m, &pvs, NULL), 0);
	assert_string_equal(path_for(&pvs, &m, "a", true), "none");
	assert_string_equal(path_for(&pvs, &m, "b", true), "/dev/two");
	assert_string_equal(path_for(&pvs, &m, "c", true), "none");
	assert_string_equal(path_for(&pvs, &m, "d", true), "/dev/own");
	assert_string_equal(path_for(&pvs, &m, "a", false), "/dev/three");
	assert_string_equal(path_for(&pvs, &m, "c", false), "/dev/nine");
	assert_string_equal(manifest_pvs_find(&pvs, &m, "default", "c")->path, "/dev/nine");
	assert_null(manifest_pvs_find(&pvs, &m, "default", "x"));
	manifest_pvs_clear(&pvs);
	manifest_clear(&m);
}

static void a_volume_keeps_what_it_had(void **state)
{
	struct manifest m = parse(DV("a", HTTP(""), BLOCK("1Gi", "")) BLOCK_PV("two", "2Gi")
			BLOCK_PV("three", "3Gi"));
	struct manifest_spec s = spec_of(&m, "a");
	const struct manifest_pv *pv = NULL;
	struct manifest_pvs pvs;

	(void)state;
	assert_int_equal(manifest_pvs_load(&m, &pvs, NULL), 0);
	manifest_pvs_keep(&pvs, &m.objects[0], &s.claim, "gone", &pv);
	assert_null(pv);
	manifest_pvs_keep(&pvs, &m.objects[0], &s.claim, "three", &pv);
	assert_string_equal(pv->path, "/dev/three");
	manifest_pvs_clear(&pvs);
	manifest_clear(&m);
}

static void a_bomb_of_lists_is_refused_soon(void **state)
{
	char text[4096];
	size_t n = (size_t)snprintf(text, sizeof(text), "l0: &l0 {kind: Pod}\n");
	struct err e = { 0 };
	struct manifest m;

	(void)state;
	for (int i = 1; i < 8; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n,
			"l%d: &l%d {kind: List, items: [*l%d, *l%d, *l%d, *l%d, *l%d, *l%d]}\n", i,
			i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	}
	n += (size_t)snprintf(text + n, sizeof(text) - n, "kind: List\nitems: [*l7]\n");
	assert_int_equal(manifest_parse("f.yaml", text, n, &m, &e), -EINVAL);
	assert_non_null(strstr(e.text, "too many objects"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_machine_of_the_documentation_is_understood),
		cmocka_unit_test(the_block_volume_of_the_documentation_is_understood),
		cmocka_unit_test(references_become_what_they_name),
		cmocka_unit_test(empty_references_and_empty_secrets_are_none),
		cmocka_unit_test(lists_and_namespaces_are_followed),
		cmocka_unit_test(every_form_of_a_volume_is_read),
		cmocka_unit_test(errors_name_file_line_and_field),
		cmocka_unit_test(the_smallest_that_fits_serves_and_each_serves_once),
		cmocka_unit_test(a_volume_keeps_what_it_had),
		cmocka_unit_test(a_bomb_of_lists_is_refused_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
